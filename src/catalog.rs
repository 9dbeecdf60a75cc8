//! The catalogue: model id → card, with what the documentation says about the model. It does not say where weights are.

use crate::catalog_embeddings;
use serde::Serialize;
use serde_json::{Value, json};

/// What the documentation says about one model.
#[derive(Debug, Clone, Copy)]
pub struct Card {
    pub id: &'static str,
    /// A stable UUID, in the form that the models API uses.
    pub uuid: &'static str,
    pub description: &'static str,
    /// Default `max_tokens` of a streamed answer.
    pub max_tokens_stream: u32,
    /// Default `max_tokens` of an answer that is returned as one object.
    pub max_tokens_object: u32,
    /// Maximum tokens of prompt and answer together, if the documentation states a limit.
    pub context_window: Option<u32>,
    /// Whether the documentation says that the model calls functions.
    pub function_calling: bool,
}

/// Id of the Text Generation task in the models API.
pub const TASK_ID: &str = "c329a1f9-323d-4e91-b2aa-582dd4188d34";

/// The small model that serves ids for which no weights are configured.
pub const DEFAULT_MODEL_ID: &str = "@cf/huggingface/smollm2-135m-instruct";

/// Every model id in the documentation, then our small default model.
pub const CARDS: &[Card] = &[
    Card {
        id: "@cf/meta/llama-2-7b-chat-fp16",
        uuid: "ca54bcd6-0d98-4739-9b3b-5c8b4402193d",
        description: "Full precision (fp16) generative text model with 7 billion parameters from Meta",
        max_tokens_stream: 2500,
        max_tokens_object: 256,
        context_window: Some(3072),
        function_calling: false,
    },
    Card {
        id: "@cf/meta/llama-2-7b-chat-int8",
        uuid: "9c95c39d-45b3-4163-9631-22f0c0dc3b14",
        description: "Quantized (int8) generative text model with 7 billion parameters from Meta",
        max_tokens_stream: 1800,
        max_tokens_object: 256,
        context_window: Some(2048),
        function_calling: false,
    },
    Card {
        id: "@cf/mistral/mistral-7b-instruct-v0.1",
        uuid: "c907d0f9-d69d-4e93-b501-4daeb4fd69eb",
        description: "Instruct fine-tuned version of the Mistral-7b generative text model with 7 billion parameters",
        max_tokens_stream: 1800,
        max_tokens_object: 256,
        context_window: None,
        function_calling: false,
    },
    Card {
        id: "@hf/codellama/codellama-7b-hf",
        uuid: "5a3c2f4e-7c0c-4b58-8d5e-6f4b4be1b6a1",
        description: "Generative text model built on top of Llama 2, fine-tuned for generating and discussing code",
        max_tokens_stream: 1800,
        max_tokens_object: 256,
        context_window: None,
        function_calling: false,
    },
    Card {
        id: "@cf/meta/llama-3-8b-instruct",
        uuid: "e11d8f45-7b08-499a-9eeb-71d4d3c8cbf9",
        description: "Generation over generation, Meta Llama 3 demonstrates state-of-the-art performance on a wide range of industry benchmarks",
        max_tokens_stream: 256,
        max_tokens_object: 256,
        context_window: None,
        function_calling: false,
    },
    Card {
        id: "@cf/meta/llama-3.1-8b-instruct",
        uuid: "41975cc2-c82e-4e98-b7b8-88ffb186a545",
        description: "The Meta Llama 3.1 collection of multilingual large language models, 8 billion parameters, instruction tuned",
        max_tokens_stream: 256,
        max_tokens_object: 256,
        context_window: None,
        function_calling: true,
    },
    Card {
        id: "@cf/meta/llama-3.1-70b-instruct",
        uuid: "6e1c8f2a-52a5-4ee7-a9c4-3cb0b5dd4f7b",
        description: "The Meta Llama 3.1 collection of multilingual large language models, 70 billion parameters, instruction tuned",
        max_tokens_stream: 256,
        max_tokens_object: 256,
        context_window: None,
        function_calling: true,
    },
    Card {
        id: DEFAULT_MODEL_ID,
        uuid: "0d7f3f3c-1c8e-4c39-8a2b-9b6a0f9f7c11",
        description: "SmolLM2, a compact language model with 135 million parameters that runs on the device; the stand-in for models without local weights",
        max_tokens_stream: 256,
        max_tokens_object: 256,
        context_window: None,
        function_calling: false,
    },
];

/// The card of a model id; `None` if the catalogue has none.
pub fn find(id: &str) -> Option<&'static Card> {
    CARDS.iter().find(|card| card.id == id)
}

/// Ids of text generation in the types that Cloudflare publishes (`AiModels` of `@cloudflare/workers-types`), one per line. The stand-in
/// answers for those that have no card, too. `tests/node/catalogue.test.mjs` compares the list with the types.
const PUBLISHED_IDS: &str = include_str!("catalog_ids.txt");

/// Whether an id is one of text generation: it has a card, or is published.
pub fn is_known(id: &str) -> bool {
    find(id).is_some() || PUBLISHED_IDS.lines().any(|line| line == id)
}

/// The known id, or the one of `others`, that is written most like `id`, if it is much like it.
pub fn nearest<'a>(id: &str, others: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// How much of an id must agree, from 0 to 1.
    const LIKE: f64 = 0.8;
    let known = CARDS.iter().map(|card| card.id).chain(PUBLISHED_IDS.lines()).chain(others);
    let id = id.to_lowercase();
    let likeness = |other: &str| strsim::normalized_levenshtein(&id, &other.to_lowercase());
    let (nearest, like) = known.map(|other| (other, likeness(other))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (like >= LIKE).then_some(nearest)
}

/// A card in the format of the models API.
#[derive(Debug, Serialize)]
pub struct ModelListing {
    pub id: &'static str,
    pub source: u32,
    pub name: &'static str,
    pub description: &'static str,
    pub task: Value,
    pub tags: Vec<&'static str>,
    pub properties: Vec<Value>,
}

impl From<&'static Card> for ModelListing {
    fn from(card: &'static Card) -> Self {
        let mut properties = Vec::new();
        if let Some(window) = card.context_window {
            properties.push(json!({"property_id": "context_window", "value": window.to_string()}));
        }
        if card.function_calling {
            properties.push(json!({"property_id": "function_calling", "value": "true"}));
        }
        Self {
            id: card.uuid,
            source: if card.id.starts_with("@hf/") { 2 } else { 1 },
            name: card.id,
            description: card.description,
            task: json!({
                "id": TASK_ID,
                "name": "Text Generation",
                "description": "Family of generative text models, such as large language models (LLM), that can be adapted for a variety of natural language tasks.",
            }),
            tags: Vec::new(),
            properties,
        }
    }
}

/// The catalogue, filtered and paged like `models()` and `/ai/models/search`. `page` counts from 1; a page past the end is
/// empty. Parameters for which the local catalogue has no data are ignored.
pub fn search(params: &Value) -> Vec<ModelListing> {
    let text = |key: &str| params.get(key).and_then(Value::as_str).map(str::to_lowercase).filter(|text| !text.is_empty());
    // Query strings contain numbers as text, the method's parameters as numbers.
    let number = |key: &str| {
        let value = params.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let (author, search, task) = (text("author"), text("search"), text("task"));
    let source = number("source");
    let per_page = number("per_page").unwrap_or(u64::MAX).max(1);
    let skip = per_page.saturating_mul(number("page").unwrap_or(1).saturating_sub(1));
    let is_task = |task: &str| task == "text generation" || task == "text-generation" || task == TASK_ID;
    let generation = CARDS.iter().filter(|_| task.as_deref().is_none_or(is_task)).map(ModelListing::from);
    let embeddings = catalog_embeddings::CARDS.iter().filter(|_| task.as_deref().is_none_or(catalog_embeddings::is_task));
    generation
        .chain(embeddings.map(ModelListing::from))
        .filter(|ModelListing { name, description, .. }| {
            let author_of = name.split('/').nth(1).unwrap_or_default();
            author.as_deref().is_none_or(|author| author_of == author)
                && search.as_deref().is_none_or(|search| name.contains(search) || description.to_lowercase().contains(search))
        })
        .filter(|listing| source.is_none_or(|source| u64::from(listing.source) == source))
        .skip(usize::try_from(skip).unwrap_or(usize::MAX))
        .take(usize::try_from(per_page).unwrap_or(usize::MAX))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(find(id).is_some(), "{id}");
        }
        let card = find("@cf/meta/llama-2-7b-chat-int8").expect("in the catalogue");
        assert_eq!((card.max_tokens_stream, card.max_tokens_object, card.context_window), (1800, 256, Some(2048)));
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

    #[test]
    fn search_filters_and_pages() {
        assert_eq!(search(&json!({})).len(), CARDS.len() + catalog_embeddings::CARDS.len());
        assert_eq!(search(&json!({"task": "Text Embeddings"})).len(), catalog_embeddings::CARDS.len());
        assert_eq!(search(&json!({"author": "meta"})).len(), 5);
        assert_eq!(search(&json!({"search": "codellama"}))[0].name, "@hf/codellama/codellama-7b-hf");
        assert_eq!(search(&json!({"per_page": 3, "page": 2})).len(), 3);
        assert!(search(&json!({"per_page": "3", "page": "9"})).is_empty());
        assert!(search(&json!({"task": "Image Classification"})).is_empty());
        let listing = &search(&json!({"search": "llama-2-7b-chat-int8"}))[0];
        assert_eq!(listing.properties[0]["value"], "2048");
    }
}
