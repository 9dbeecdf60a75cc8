//! The catalogue as the models API returns it: filtered and paged.

use crate::catalog::{Card, TASK_ID, cards};
use crate::catalog_embeddings;
use serde::Serialize;
use serde_json::{Value, json};

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

/// Features that are properties of the models API, and their names there.
pub const PROPERTIES: [(&str, &str); 6] = [
    ("batch", "async_queue"),
    ("beta", "beta"),
    ("lora", "lora"),
    ("reasoning", "reasoning"),
    ("tools", "function_calling"),
    ("vision", "vision"),
];

impl From<&'static Card> for ModelListing {
    fn from(card: &'static Card) -> Self {
        let mut properties = Vec::new();
        if let Some(window) = card.context_window {
            properties.push(json!({"property_id": "context_window", "value": window.to_string()}));
        }
        let featured = PROPERTIES.iter().filter(|(feature, _)| card.has(feature));
        properties.extend(featured.map(|(_, property)| json!({"property_id": property, "value": "true"})));
        properties.extend(card.until().map(|date| json!({"property_id": "planned_deprecation_date", "value": date})));
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

impl From<&'static catalog_embeddings::Card> for ModelListing {
    fn from(card: &'static catalog_embeddings::Card) -> Self {
        let property = |id: &str, value: u32| json!({"property_id": id, "value": value.to_string()});
        let limit = card.max_input_tokens.map(|tokens| property("max_input_tokens", tokens));
        Self {
            id: card.uuid,
            source: 1,
            name: card.id,
            description: card.description,
            task: json!({"id": catalog_embeddings::TASK_ID, "name": catalog_embeddings::TASK, "description": "Models that turn texts into vectors, such that texts of similar meaning have similar vectors."}),
            tags: Vec::new(),
            properties: limit.into_iter().chain([property("output_dimensions", card.dimensions)]).collect(),
        }
    }
}

/// The catalogue, filtered and paged like `models()` and `/ai/models/search`. `page` counts from 1; a page past the end is
/// empty. Parameters for which the local catalogue has no data are ignored.
pub fn search(params: &Value) -> Vec<ModelListing> {
    let text = |key: &str| params.get(key).and_then(Value::as_str).map(str::to_lowercase).filter(|text| !text.is_empty());
    // Query strings contain numbers and flags as text, the method's parameters as they are.
    let number = |key: &str| {
        let value = params.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let (author, search, task) = (text("author"), text("search"), text("task"));
    let hides_beta = params.get("hide_experimental").is_some_and(|value| *value == true || *value == "true");
    let source = number("source");
    let per_page = number("per_page").unwrap_or(u64::MAX).max(1);
    let skip = per_page.saturating_mul(number("page").unwrap_or(1).saturating_sub(1));
    let is_task = |task: &str| task == "text generation" || task == "text-generation" || task == TASK_ID;
    let generation = cards().iter().filter(|card| task.as_deref().is_none_or(is_task) && !(hides_beta && card.has("beta")));
    let embeddings = catalog_embeddings::CARDS.iter().filter(|_| task.as_deref().is_none_or(catalog_embeddings::is_task));
    generation
        .map(ModelListing::from)
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
    fn search_filters_and_pages() {
        let all_cards = cards().len() + catalog_embeddings::CARDS.len();
        assert_eq!(search(&json!({})).len(), all_cards);
        assert_eq!(search(&json!({"task": "Text Embeddings"})).len(), catalog_embeddings::CARDS.len());
        let names = |params: Value| search(&params).iter().map(|listing| listing.name).collect::<Vec<_>>();
        assert!(names(json!({"author": "meta"})).iter().all(|name| name.starts_with("@cf/meta/")));
        assert_eq!(names(json!({"search": "codellama"})), ["@hf/codellama/codellama-7b-hf"]);
        assert!(names(json!({"source": 2})).iter().all(|name| name.starts_with("@hf/")));
        let stable = names(json!({"hide_experimental": "true"}));
        assert!(stable.len() < all_cards && !stable.contains(&"@cf/microsoft/phi-2"));
        let all: Vec<_> = names(json!({}));
        assert_eq!(names(json!({"per_page": 3, "page": 2})), all[3..6]);
        assert!(search(&json!({"per_page": "3", "page": "99"})).is_empty());
        assert!(search(&json!({"task": "Image Classification"})).is_empty());
        let listing = &search(&json!({"search": "llama-3.3-70b"}))[0];
        let property =
            |id: &str| listing.properties.iter().find(|property| property["property_id"] == id).map(|property| &property["value"]);
        assert_eq!(property("context_window"), Some(&json!("24000")));
        assert_eq!((property("function_calling"), property("async_queue")), (Some(&json!("true")), Some(&json!("true"))));
        assert_eq!(property("reasoning"), None);
    }
}
