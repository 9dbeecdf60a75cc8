//! The sizes of a BERT model, from `config.json` or a GGUF's metadata.

use crate::error::{Error, Result};
use candle_transformers::models::bert;
use serde::Deserialize;

/// The function between the two matrices of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Gelu,
    GeluTanh,
    Relu,
}

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub vocabulary: usize,
    /// Of a vector.
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub inner_width: usize,
    /// Tokens that a text can have.
    pub positions: usize,
    /// The row of the position embeddings for the first token: RoBERTa's begin behind that of padding.
    pub first_position: usize,
    pub token_types: usize,
    pub epsilon: f64,
    pub activation: Activation,
}

/// `config.json` of Hugging Face's transformers.
#[derive(Deserialize)]
struct Json {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    /// Of RoBERTa. Other kinds may have anything here.
    #[serde(default)]
    pad_token_id: serde_json::Value,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "small")]
    layer_norm_eps: f64,
    #[serde(default)]
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: String,
}

const fn two() -> usize {
    2
}

/// Kinds that compute what BERT does, with other first positions.
const ROBERTA: [&str; 3] = ["xlm-roberta", "roberta", "camembert"];

const fn small() -> f64 {
    1e-12
}

impl Config {
    /// # Errors
    ///
    /// The text is not the configuration of a BERT model.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Kind {
            model_type: Option<String>,
        }
        let invalid = |error: serde_json::Error| Error::invalid(format!("config.json cannot be used: {error}"));
        // Other kinds have other fields.
        let kind = serde_json::from_slice::<Kind>(text).map_err(invalid)?.model_type.unwrap_or_else(|| "bert".into());
        let is_roberta = ROBERTA.contains(&kind.as_str());
        if kind != "bert" && !is_roberta {
            return Err(Error::invalid(format!(
                "config.json describes a model of the type '{kind}'; those that can be used are bert, {}",
                ROBERTA.join(", ")
            )));
        }
        let json: Json = serde_json::from_slice(text).map_err(invalid)?;
        if !json.position_embedding_type.is_empty() && json.position_embedding_type != "absolute" {
            return Err(Error::invalid(format!(
                "config.json has position_embedding_type '{}', not 'absolute'",
                json.position_embedding_type
            )));
        }
        let activation = match json.hidden_act.as_str() {
            "" | "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(Error::invalid(format!("config.json has the unknown hidden_act '{other}'"))),
        };
        let padding = || json.pad_token_id.as_u64().and_then(|id| usize::try_from(id).ok()).unwrap_or(1);
        let first_position = if is_roberta { padding().saturating_add(1) } else { 0 };
        let config = Self {
            vocabulary: json.vocab_size,
            width: json.hidden_size,
            layers: json.num_hidden_layers,
            heads: json.num_attention_heads,
            inner_width: json.intermediate_size,
            positions: json.max_position_embeddings.saturating_sub(first_position),
            first_position,
            token_types: json.type_vocab_size,
            epsilon: json.layer_norm_eps,
            activation,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks what candle relies on. The shapes of the tensors it checks itself.
    pub fn check(&self) -> Result<()> {
        let sizes = [self.vocabulary, self.width, self.layers, self.heads, self.inner_width, self.token_types];
        let possible = sizes.iter().all(|size| (1..1 << 24).contains(size)) && (8..1 << 20).contains(&self.positions);
        if possible && self.width.is_multiple_of(self.heads) {
            Ok(())
        } else {
            Err(Error::invalid(format!("the model has impossible sizes: {self:?}")))
        }
    }

    /// In candle's form.
    pub fn to_candle(&self) -> bert::Config {
        bert::Config {
            vocab_size: self.vocabulary,
            hidden_size: self.width,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            intermediate_size: self.inner_width,
            hidden_act: match self.activation {
                Activation::Gelu => bert::HiddenAct::Gelu,
                Activation::GeluTanh => bert::HiddenAct::GeluApproximate,
                Activation::Relu => bert::HiddenAct::Relu,
            },
            max_position_embeddings: self.positions,
            type_vocab_size: self.token_types,
            layer_norm_eps: self.epsilon,
            ..bert::Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_models_are_refused() {
        let refused = |text: &str| Config::from_json(text.as_bytes()).expect_err("refused").to_string();
        assert!(refused("{").contains("config.json cannot be used"));
        assert!(refused(r#"{"model_type": "nomic_bert"}"#).contains("'nomic_bert'"));
        let of = |heads: usize, act: &str| {
            format!(
                r#"{{"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": {heads}, "intermediate_size": 16, "max_position_embeddings": 32, "hidden_act": "{act}"}}"#
            )
        };
        assert!(refused(&of(0, "gelu")).contains("impossible sizes"));
        assert!(refused(&of(3, "gelu")).contains("impossible sizes"));
        assert!(refused(&of(2, "swish")).contains("'swish'"));
        let config = Config::from_json(of(2, "gelu_new").as_bytes()).expect("a configuration");
        assert_eq!((config.token_types, config.activation), (2, Activation::GeluTanh));
        assert_eq!((config.positions, config.first_position), (32, 0));
        let without_padding = of(2, "gelu").replacen('{', r#"{"pad_token_id": null, "#, 1);
        assert!(Config::from_json(without_padding.as_bytes()).is_ok());
        let roberta = of(2, "gelu").replacen('{', r#"{"model_type": "xlm-roberta", "#, 1);
        let config = Config::from_json(roberta.as_bytes()).expect("a configuration");
        assert_eq!((config.positions, config.first_position), (30, 2));
    }
}
