//! The OpenAI-compatible surface: chat completions, responses and models.

use super::{Request, Response, respond};
use crate::ai::{Ai, Api};
use crate::catalog::{cards, find};
use crate::catalog_embeddings;
use crate::error::{AiError, ErrorCode, Result};
use serde_json::{Map, Value, json};

/// The `created` time of every listed model, as Unix time in seconds. An arbitrary moment in the past.
const CREATED: u64 = 1_700_000_000;

/// `POST …/v1/chat/completions` and `POST …/v1/responses`.
pub async fn answer(ai: &Ai, request: &Request, api: Api) -> Result<Response> {
    let Value::Object(mut fields) = request.json()? else {
        return Err(AiError::invalid_input("Type mismatch of '/', 'object' expected"));
    };
    let Some(Value::String(model)) = fields.remove("model") else {
        return Err(AiError::invalid_input(
            "required properties at '/' are 'model': name a model, for instance @cf/meta/llama-3.1-8b-instruct",
        ));
    };
    let input = Value::Object(as_input(fields));
    let answer = ai.answer(&model, Ok(input), api, request.nonce).await?;
    respond(answer, |object| object).await
}

/// Maps values that are valid in OpenAI's API, but outside the binding's ranges, into these ranges.
fn as_input(mut fields: Map<String, Value>) -> Map<String, Value> {
    // OpenAI accepts any integer as a seed.
    if let Some(seed) = fields.get("seed").and_then(Value::as_i64)
        && !(1..=9_999_999_999).contains(&seed)
    {
        fields.insert("seed".into(), (seed.unsigned_abs() % 9_999_999_999 + 1).into());
    }
    fields
}

/// `GET …/v1/models`.
pub fn models(ai: &Ai) -> Response {
    let embeddings = catalog_embeddings::CARDS.iter().map(|card| card.id);
    let ids = cards().iter().map(|card| card.id).chain(embeddings).chain(ai.further_models());
    Response::json(200, &json!({"object": "list", "data": ids.map(listing).collect::<Vec<Value>>()}))
}

/// `GET …/v1/models/:id`. 3042 for an unknown id.
pub fn model(ai: &Ai, id: &str) -> Result<Response> {
    if find(id).is_none() && catalog_embeddings::find(id).is_none() && !ai.further_models().contains(&id) {
        return Err(AiError::new(ErrorCode::NotFound, format!("No such model {id}")));
    }
    Ok(Response::json(200, &listing(id)))
}

fn listing(id: &str) -> Value {
    let owner = id.split('/').nth(1).unwrap_or("local");
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": owner})
}

/// The error object that OpenAI's clients read.
pub fn error(error: &AiError) -> Value {
    let kind = match error.code {
        ErrorCode::OutOfCapacity => "rate_limit_error",
        ErrorCode::NotFound => "not_found_error",
        _ => "invalid_request_error",
    };
    json!({"message": error.to_string(), "type": kind, "param": null, "code": error.code.internal()})
}
