//! The embedding models of the catalogue: their cards.

use serde_json::{Value, json};

/// What is published about one embedding model (cloudflare-docs, `src/content/workers-ai-models/`, and the models' own cards).
#[derive(Debug, Clone, Copy)]
pub struct Card {
    pub id: &'static str,
    /// A stable UUID, in the form that the models API uses.
    pub uuid: &'static str,
    pub description: &'static str,
    /// Length of a vector.
    pub dimensions: u32,
    /// Tokens of a text, if the documentation states a limit.
    pub max_input_tokens: Option<u32>,
}

/// The model that stands in for those without local weights.
pub const DEFAULT_ID: &str = "@cf/sentence-transformers/all-minilm-l6-v2";

/// Id of the Text Embeddings task in the models API.
pub const TASK_ID: &str = "0137cdcf-162a-4108-94f2-1ca59e8c65ee";
/// Its name.
pub const TASK: &str = "Text Embeddings";

/// The embedding models in Cloudflare's documentation, then the small one that stands in for them.
pub const CARDS: &[Card] = &[
    Card {
        id: "@cf/baai/bge-small-en-v1.5",
        uuid: "57fbd08a-a4c4-411c-910d-b9459ff36c20",
        description: "BAAI general embedding for English, small",
        dimensions: 384,
        max_input_tokens: Some(512),
    },
    Card {
        id: "@cf/baai/bge-base-en-v1.5",
        uuid: "429b9e8b-d99e-44de-91ad-706cf8183658",
        description: "BAAI general embedding for English, of medium size",
        dimensions: 768,
        max_input_tokens: Some(512),
    },
    Card {
        id: "@cf/baai/bge-large-en-v1.5",
        uuid: "01bc2fb0-4bca-4598-b985-d2584a3f46c0",
        description: "BAAI general embedding for English, large",
        dimensions: 1024,
        max_input_tokens: Some(512),
    },
    Card {
        id: "@cf/baai/bge-m3",
        uuid: "eed32bc1-8775-4985-89ce-dd1405508ad8",
        description: "BAAI embedding model for many languages and for long texts",
        dimensions: 1024,
        max_input_tokens: None,
    },
    Card {
        id: "@cf/google/embeddinggemma-300m",
        uuid: "15631501-2742-4346-a469-22fe202188a2",
        description: "Google EmbeddingGemma, 300M parameters, for many languages",
        dimensions: 768,
        max_input_tokens: None,
    },
    Card {
        id: "@cf/qwen/qwen3-embedding-0.6b",
        uuid: "cb254e3b-372b-4d4e-8526-ada79940427a",
        description: "Qwen3 embedding model, 0.6B parameters, for queries and documents",
        dimensions: 1024,
        max_input_tokens: None,
    },
    Card {
        id: DEFAULT_ID,
        uuid: "2f6a6a0e-7a57-4c0e-8f0b-5f0c8d9b1e27",
        description: "all-MiniLM-L6-v2, a compact embedding model: the stand-in for embedding models without local weights",
        dimensions: 384,
        max_input_tokens: Some(512),
    },
];

/// The card of an id; `None` if it is not one of an embedding model.
pub fn find(id: &str) -> Option<&'static Card> {
    CARDS.iter().find(|card| card.id == id)
}

/// Whether a lower-case filter of the models API asks for this task.
pub fn is_task(filter: &str) -> bool {
    filter == "text embeddings" || filter == "text-embeddings" || filter == TASK_ID
}

/// The JSON Schemas of input and output, as the models API returns them. Every model takes the inputs of all.
pub fn published_schemas() -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let texts = json!({"oneOf": [text, {"type": "array", "items": text, "maxItems": crate::input::MAX_TEXTS}]});
    let context = json!({"type": "object", "properties": {"text": text}, "required": ["text"]});
    let numbers = || json!({"type": "array", "items": {"type": "number"}});
    let vectors = || json!({"type": "array", "items": numbers()});
    let pooling = || json!({"type": "string", "enum": ["mean", "cls"]});
    let score = json!({"type": "object", "properties": {"id": {"type": "integer"}, "score": {"type": "number"}}});
    let object = |properties: Value, required: Value| json!({"type": "object", "contentType": "application/json", "properties": properties, "required": required});
    json!({
        "input": {
            "type": "object",
            "properties": {
                "text": texts,
                "queries": texts,
                "documents": texts,
                "instruction": {"type": "string"},
                "query": text,
                "contexts": {"type": "array", "items": context, "maxItems": crate::input::MAX_TEXTS},
                "pooling": pooling(),
            },
            "anyOf": (["text", "queries", "documents", "contexts"].map(|key| json!({"required": [key]}))),
        },
        "output": {"oneOf": [
            object(json!({"shape": numbers(), "data": vectors(), "pooling": pooling()}), json!(["shape", "data"])),
            object(json!({"response": {"type": "array", "items": {"anyOf": [score, numbers()]}}, "shape": numbers(), "pooling": pooling()}), json!(["response"])),
        ]},
    })
}
