//! Adapters as the Python library PEFT writes them: `adapter_config.json`, and `adapter_model.safetensors` with the tensors
//! `base_model.model.….lora_A.weight` and `….lora_B.weight`.

use super::listing::{Half, Listing, Order, Side, Tensor};
use super::{safetensors, unsupported};
use crate::error::Result;
use crate::gguf::Reader;
use crate::model::{Role, RoleInLayer};
use serde_json::{Map, Value};

/// Bytes above which a configuration counts as damaged.
const MAX_CONFIG: usize = 1 << 20;

/// The modules of a layer, as Hugging Face's models name them, behind `layers.` and the layer's number. The rows of a module with several roles are those
/// of the first role, then those of the next one.
const MODULES: [(&str, &[RoleInLayer]); 9] = [
    ("self_attn.q_proj", &[Role::Query]),
    ("self_attn.k_proj", &[Role::Key]),
    ("self_attn.v_proj", &[Role::Value]),
    ("self_attn.qkv_proj", &[Role::Query, Role::Key, Role::Value]),
    ("self_attn.o_proj", &[Role::AttentionOutput]),
    ("mlp.gate_proj", &[Role::Gate]),
    ("mlp.up_proj", &[Role::Up]),
    ("mlp.gate_up_proj", &[Role::Gate, Role::Up]),
    ("mlp.down_proj", &[Role::Down]),
];

/// What may stand before `layers.`: the text part of a model that reads images has a name of its own.
const BEFORE_LAYERS: [&str; 4] = ["model.", "", "model.language_model.", "language_model.model."];

/// What the two files have. The readers are at their starts.
///
/// # Errors
///
/// 5005 if they are not those of a LoRA adapter that can be computed; the errors of the readers.
pub async fn list(config: &mut Reader, weights: &mut Reader) -> Result<Listing> {
    let name = config.name();
    let mut bytes = Vec::new();
    loop {
        let piece = config.next(MAX_CONFIG).await?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(piece);
        if bytes.len() > MAX_CONFIG {
            return Err(unsupported(format!("{name} is larger than {MAX_CONFIG} bytes.")));
        }
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(&bytes) else {
        return Err(unsupported(format!("{name} is not a JSON object.")));
    };
    let config = Config::new(&fields).map_err(|reason| unsupported(format!("{name} says {reason}.")))?;
    let tensors = safetensors::tensors(weights).await?;
    let mut halves = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        halves.push(half(tensor)?);
    }
    Ok(Listing { halves, order: Order::Peft, scale: Box::new(move |module, rank| config.scale(module, rank)) })
}

/// One of the two tensors of a module.
fn half(tensor: Tensor) -> Result<Half> {
    let unfit = |reason: &str| Err(unsupported(format!("its tensor '{}' {reason}.", tensor.name)));
    let key = tensor.name.strip_prefix("base_model.model.").unwrap_or(&tensor.name);
    if key.contains("lora_embedding_") {
        return unfit("adapts the embedding of the tokens, which is not supported");
    }
    if key.contains("lora_magnitude_vector") {
        return unfit("belongs to DoRA, which is not supported");
    }
    let (side, parts) = match (key.split_once(".lora_A."), key.split_once(".lora_B.")) {
        (Some(parts), _) => (Side::A, parts),
        (_, Some(parts)) => (Side::B, parts),
        _ => return unfit("is no part of a low-rank matrix"),
    };
    // Some versions write the adapter's name before it.
    let (module, rest) = parts;
    if rest != "weight" && !rest.ends_with(".weight") {
        return unfit("is no part of a low-rank matrix");
    }
    let module = module.to_owned();
    Ok(Half { roles: roles(&module), matrix: module, side, tensor })
}

/// The roles of a module, in the order of its rows; none for modules that have no matrix here.
fn roles(module: &str) -> Vec<Role> {
    if module == "lm_head" {
        return vec![Role::Output];
    }
    let Some((before, behind)) = module.split_once("layers.") else { return Vec::new() };
    let Some((layer, part)) = behind.split_once('.') else { return Vec::new() };
    let known = MODULES.iter().find(|(known, _)| *known == part && BEFORE_LAYERS.contains(&before));
    match (known, layer.parse()) {
        (Some((_, roles)), Ok(layer)) => roles.iter().map(|of_layer| of_layer(layer)).collect(),
        _ => Vec::new(),
    }
}

/// Numbers of some modules, by the end of their names.
type Patterns = Vec<(String, f64)>;

/// The fields of `adapter_config.json` that matter.
struct Config {
    rank: f64,
    alpha: f64,
    /// α is divided by the root of the rank, not by the rank.
    by_root: bool,
    /// Other ranks, and other alphas, of some modules.
    ranks: Patterns,
    alphas: Patterns,
}

impl Config {
    /// The error is what the configuration says that cannot be computed.
    fn new(fields: &Map<String, Value>) -> std::result::Result<Self, String> {
        let field = |key: &str| fields.get(key).filter(|value| !value.is_null());
        let is_set = |key: &str| match field(key) {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            Some(_) => true,
        };
        if let Some(kind) = field("peft_type").filter(|kind| kind.as_str() != Some("LORA")) {
            return Err(format!("\"peft_type\": {kind}; only \"LORA\" is supported"));
        }
        for key in ["use_dora", "modules_to_save", "layer_replication", "lora_bias", "alora_invocation_tokens", "trainable_token_indices"] {
            if is_set(key) {
                return Err(format!("\"{key}\": {}, which is not supported", fields.get(key).unwrap_or(&Value::Null)));
            }
        }
        if let Some(bias) = field("bias").filter(|bias| bias.as_str() != Some("none")) {
            return Err(format!("\"bias\": {bias}; only \"none\" is supported"));
        }
        // These begin with other weights of the model than its own.
        if let Some(start) = field("init_lora_weights").and_then(Value::as_str)
            && ["pissa", "olora", "corda", "loftq"].iter().any(|other| start.to_lowercase().starts_with(other))
        {
            return Err(format!(
                "\"init_lora_weights\": \"{start}\", which changes the model's own weights. Convert it to a plain LoRA adapter with PEFT"
            ));
        }
        let rank = number("r", fields.get("r").unwrap_or(&Value::Null))?;
        let alpha = field("lora_alpha").map_or(Ok(rank), |alpha| number("lora_alpha", alpha))?;
        let [ranks, alphas] = [patterns(fields, "rank_pattern")?, patterns(fields, "alpha_pattern")?];
        Ok(Self { rank, alpha, by_root: is_set("use_rslora"), ranks, alphas })
    }

    /// The factor of a module whose matrices have this rank.
    fn scale(&self, module: &str, rank: usize) -> Result<f32> {
        let expected = matching(&self.ranks, module).unwrap_or(self.rank);
        if rank as f64 != expected {
            return Err(unsupported(format!("its matrices of '{module}' have the rank {rank}, its configuration says {expected}.")));
        }
        let alpha = matching(&self.alphas, module).unwrap_or(self.alpha);
        let rank = rank as f64;
        Ok((alpha / if self.by_root { rank.sqrt() } else { rank }) as f32)
    }
}

fn number(key: &str, value: &Value) -> std::result::Result<f64, String> {
    value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| format!("\"{key}\": {value}, which is no number"))
}

/// The numbers of some modules.
fn patterns(fields: &Map<String, Value>, key: &str) -> std::result::Result<Patterns, String> {
    let mut patterns = Vec::new();
    for (pattern, value) in fields.get(key).and_then(Value::as_object).into_iter().flatten() {
        patterns.push((plain(pattern, key)?, number(key, value)?));
    }
    Ok(patterns)
}

/// A pattern of modules without the marks of a regular expression that say nothing more: `model\.layers\.0` is `model.layers.0`.
fn plain(pattern: &str, key: &str) -> std::result::Result<String, String> {
    let plain = pattern.trim_end_matches('$').replace("\\.", ".");
    if plain.contains(['*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\', '$']) {
        return Err(format!("\"{key}\" with the regular expression \"{pattern}\"; only names of modules are supported"));
    }
    Ok(plain)
}

/// The value of the first pattern that is a module's name, or the end of it. Behind `^`, a pattern is the whole name.
fn matching(patterns: &[(String, f64)], module: &str) -> Option<f64> {
    let matches = |pattern: &str| match pattern.strip_prefix('^') {
        Some(whole) => whole == module,
        None => module.strip_suffix(pattern).is_some_and(|before| before.is_empty() || before.ends_with('.')),
    };
    patterns.iter().find(|(pattern, _)| matches(pattern)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(fields: Value) -> std::result::Result<Config, String> {
        Config::new(fields.as_object().expect("an object"))
    }

    #[test]
    fn scales_follow_rank_alpha_and_patterns() {
        let scale = |fields, module, rank| config(fields).expect("a configuration").scale(module, rank);
        let module = "model.layers.3.self_attn.q_proj";
        assert_eq!(scale(json!({"r": 8, "lora_alpha": 16}), module, 8), Ok(2.0));
        assert_eq!(scale(json!({"r": 16, "lora_alpha": 8, "use_rslora": true}), module, 16), Ok(2.0));
        assert_eq!(scale(json!({"r": 8, "lora_alpha": 16, "alpha_pattern": {"q_proj": 4}}), module, 8), Ok(0.5));
        assert_eq!(scale(json!({"r": 8, "lora_alpha": 16, "alpha_pattern": {"^q_proj": 4}}), module, 8), Ok(2.0));
        assert_eq!(scale(json!({"r": 8, "lora_alpha": 16, "rank_pattern": {"layers.3.self_attn.q_proj": 4}}), module, 4), Ok(4.0));
        assert!(scale(json!({"r": 8, "lora_alpha": 16}), module, 4).is_err());
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        for (fields, part) in [
            (json!({"lora_alpha": 16}), "\"r\""),
            (json!({"r": 8, "peft_type": "IA3"}), "IA3"),
            (json!({"r": 8, "use_dora": true}), "use_dora"),
            (json!({"r": 8, "bias": "all"}), "bias"),
            (json!({"r": 8, "modules_to_save": ["lm_head"]}), "modules_to_save"),
            (json!({"r": 8, "init_lora_weights": "pissa_niter_4"}), "pissa"),
            (json!({"r": 8, "lora_alpha": "x"}), "lora_alpha"),
            (json!({"r": 8, "alpha_pattern": {"[qk]_proj": 4}}), "regular expression"),
        ] {
            let error = config(fields.clone()).err().unwrap_or_default();
            assert!(error.contains(part), "{fields}: {error}");
        }
        assert!(config(json!({"r": 8, "use_dora": false, "modules_to_save": null, "bias": "none", "layer_replication": []})).is_ok());
    }

    #[test]
    fn modules_have_the_roles_of_their_names() {
        assert_eq!(roles("model.layers.4.mlp.down_proj"), [Role::Down(4)]);
        assert_eq!(roles("model.layers.0.self_attn.qkv_proj"), [Role::Query(0), Role::Key(0), Role::Value(0)]);
        assert_eq!(roles("lm_head"), [Role::Output]);
        assert!(roles("model.vision_tower.encoder.layers.0.self_attn.q_proj").is_empty());
        assert!(roles("model.layers.x.mlp.down_proj").is_empty());
    }
}
