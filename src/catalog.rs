//! The catalogue: model id → card, with what is published about the model. It does not say where weights are.
//!
//! `catalog.tsv` has one line for each model of text generation of Workers AI, sorted by id. Its columns, separated by tabs, are:
//! - id, and UUID in the models API;
//! - context window in tokens ("-": none is published);
//! - default `max_tokens` ("stream/object" where they differ, "-": what the window leaves);
//! - features; "until:" is the date from which the service does not answer for the id any more (here it does);
//! - shape of the answers: "response" is the binding's own, "response+objects" the same with objects as `arguments` of a call's `function`, "chat" chat completions, "chat+text" the same, but text completions for a prompt,
//!   "chat+responses" chat completions, or responses for an input of the Responses API. It is that of the id's type in
//!   `@cloudflare/workers-types` 5.20261117.1 (`tests/node/catalogue.test.mjs` compares them);
//! - chat format, of the model's own card;
//! - reasoning efforts that the model knows, "*" at the default one, and which one another stands for, from workers-types;
//! - source of the other figures: the first digits of the commit of cloudflare-docs in which `src/content/workers-ai-models/NAME.json` (the last part
//!   of the id) has them; "docs": the documentation's pages of 2024;
//! - description (ours).

use std::sync::OnceLock;

/// What is published about one model. Texts are those of the table.
#[derive(Debug, Clone, Copy)]
pub struct Card {
    pub id: &'static str,
    /// A stable UUID, in the form that the models API uses.
    pub uuid: &'static str,
    pub description: &'static str,
    /// Default `max_tokens` of a streamed answer, and of one that is returned as one object. `None`: what the context window leaves.
    pub max_tokens_stream: Option<u32>,
    pub max_tokens_object: Option<u32>,
    /// Maximum tokens of prompt and answer together, if a limit is published.
    pub context_window: Option<u32>,
    pub shape: Shape,
    features: &'static str,
    efforts: &'static str,
}

/// The shape of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The binding's own: `{response, …}`.
    Response,
    /// The same, but the `arguments` of a call's `function` are an object, not JSON text.
    ResponseWithObjects,
    /// OpenAI's chat completions.
    Chat,
    /// The same, but text completions for a prompt.
    ChatOrText,
    /// Chat completions, or responses for an input of the Responses API.
    ChatOrResponses,
}

impl Shape {
    /// Whether `run` answers as OpenAI does.
    pub fn is_chat(self) -> bool {
        !matches!(self, Self::Response | Self::ResponseWithObjects)
    }
}

/// Id of the Text Generation task in the models API.
pub const TASK_ID: &str = "c329a1f9-323d-4e91-b2aa-582dd4188d34";

/// The small model that serves ids for which no weights are configured.
pub const DEFAULT_MODEL_ID: &str = "@cf/huggingface/smollm2-135m-instruct";

/// The table of the models.
const TABLE: &str = include_str!("catalog.tsv");

/// The card of every model of Workers AI, and of our small default model.
pub fn cards() -> &'static [Card] {
    static CARDS: OnceLock<Vec<Card>> = OnceLock::new();
    CARDS.get_or_init(|| TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(card_of).collect())
}

/// The card of a line of the table.
fn card_of(line: &'static str) -> Option<Card> {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let [id, uuid, window, max_tokens, features, shape, _, efforts, _, description] = columns.try_into().ok()?;
    let (stream, object) = max_tokens.split_once('/').unwrap_or((max_tokens, max_tokens));
    Some(Card {
        id,
        uuid,
        description,
        max_tokens_stream: stream.parse().ok(),
        max_tokens_object: object.parse().ok(),
        context_window: window.parse().ok(),
        shape: match shape {
            "response+objects" => Shape::ResponseWithObjects,
            "chat" => Shape::Chat,
            "chat+text" => Shape::ChatOrText,
            "chat+responses" => Shape::ChatOrResponses,
            _ => Shape::Response,
        },
        features,
        efforts,
    })
}

impl Card {
    /// Whether the model has a feature of the table: `tools`, `reasoning`, `lora`, `vision`, `batch`, `beta`.
    pub fn has(&self, feature: &str) -> bool {
        self.features.split(',').any(|listed| listed == feature)
    }

    /// The date from which the service does not answer for the id any more.
    pub fn until(&self) -> Option<&'static str> {
        self.features.split(',').find_map(|feature| feature.strip_prefix("until:"))
    }

    /// The model's reasoning effort for the one that a request names: the same, the one that it stands for, or the default one if the model does
    /// not know it. A model without a list of efforts takes any.
    pub fn effort<'a>(&self, named: &'a str) -> &'a str
    where
        'static: 'a,
    {
        let known = || self.efforts.split(' ').filter(|effort| *effort != "-");
        let stands_for = |effort: &'static str| effort.split_once('=').filter(|(name, _)| *name == named).map(|(_, effort)| effort);
        let default = || known().find_map(|effort| effort.strip_suffix('*'));
        if known().any(|effort| effort.trim_end_matches('*') == named) {
            return named;
        }
        known().find_map(stands_for).or_else(default).unwrap_or(named)
    }
}

/// The card of a model id; `None` if the catalogue has none.
pub fn find(id: &str) -> Option<&'static Card> {
    cards().iter().find(|card| card.id == id)
}

/// The known id, or the one of `others`, that is written most like `id`, if it is much like it.
pub fn nearest<'a>(id: &str, others: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// How much of an id must agree, from 0 to 1.
    const LIKE: f64 = 0.8;
    let known = cards().iter().map(|card| card.id).chain(others);
    let id = id.to_lowercase();
    let likeness = |other: &str| strsim::normalized_levenshtein(&id, &other.to_lowercase());
    let (nearest, like) = known.map(|other| (other, likeness(other))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (like >= LIKE).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::PROPERTIES;

    #[test]
    fn every_line_of_the_table_is_a_card() {
        let lines: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(cards().len(), lines.len());
        assert!(cards().is_sorted_by_key(|card| card.id), "sorted, without duplicates");
        let mut uuids: Vec<&str> = cards().iter().map(|card| card.uuid).collect();
        uuids.sort_unstable();
        uuids.dedup();
        assert_eq!(uuids.len(), lines.len());
        for line in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            let numbers = [columns[2], columns[3].split('/').next().expect("a default"), columns[3].split('/').next_back().expect("one")];
            assert!(numbers.iter().all(|number| *number == "-" || number.parse::<u32>().is_ok_and(|number| number > 0)), "{line}");
            let is_feature = |feature: &str| PROPERTIES.iter().any(|(name, _)| *name == feature) || feature.starts_with("until:");
            assert!(columns[4] == "-" || columns[4].split(',').all(is_feature), "{line}");
            assert!(["response", "response+objects", "chat", "chat+text", "chat+responses"].contains(&columns[5]), "{line}");
        }
    }

    #[test]
    fn every_documented_id_has_a_card() {
        for id in [
            "@cf/meta/llama-2-7b-chat-fp16",
            "@cf/meta/llama-2-7b-chat-int8",
            "@cf/mistral/mistral-7b-instruct-v0.1",
            "@hf/codellama/codellama-7b-hf",
            "@cf/meta/llama-3-8b-instruct",
            "@cf/meta/llama-3.1-8b-instruct",
            "@cf/meta/llama-3.1-70b-instruct",
        ] {
            assert!(find(id).is_some_and(|card| card.shape == Shape::Response), "{id}");
        }
        let card = find("@cf/meta/llama-2-7b-chat-int8").expect("in the catalogue");
        assert_eq!((card.max_tokens_stream, card.max_tokens_object, card.context_window), (Some(1800), Some(256), Some(2048)));
    }

    #[test]
    fn efforts_are_the_models() {
        let effort = |id: &str, named: &'static str| find(id).expect("in the catalogue").effort(named);
        assert_eq!(effort("@cf/zai-org/glm-5.2", "high"), "high");
        assert_eq!(effort("@cf/zai-org/glm-5.2", "low"), "high");
        assert_eq!(effort("@cf/zai-org/glm-5.2", "minimal"), "none");
        assert_eq!(effort("@cf/zai-org/glm-5.2", "unheard of"), "max");
        assert_eq!(effort("@cf/zai-org/glm-5.2", "max"), "max");
        assert_eq!(effort("@cf/meta/llama-3.1-8b-instruct", "low"), "low");
    }

    #[test]
    fn the_nearest_id_is_found_where_one_is_near() {
        let own = ["@cf/own/model"];
        let near = |id| nearest(id, own.into_iter());
        assert_eq!(near("@cf/meta/llama-3.1-8b-instuct"), Some("@cf/meta/llama-3.1-8b-instruct"));
        assert_eq!(near("@cf/meta/Llama-3.3-70B-instruct-fp8-fast"), Some("@cf/meta/llama-3.3-70b-instruct-fp8-fast"));
        assert_eq!(near("@cf/own/modle"), Some("@cf/own/model"));
        assert_eq!(near("@cf/x/y"), None);
        assert_eq!(near(""), None);
    }
}
