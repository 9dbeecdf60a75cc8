//! Cloudflare's REST API: answers in the envelope `{result, success, errors, messages}`.

use super::{Request, Response, queue_without_batch, respond};
use crate::ai::{Ai, Api, id_of_lora};
use crate::catalog;
use crate::catalog_embeddings;
use crate::error::{AiError, Result};
use crate::input::published_schemas;
use serde_json::{Value, json};

/// `POST …/ai/run/:model`. The body is the input.
pub async fn run(ai: &Ai, model: &str, query: &Value, request: &Request) -> Result<Response> {
    if query["queueRequest"] == "true" {
        return Err(queue_without_batch());
    }
    let answer = ai.answer(model, request.json(), Api::Run, request.nonce).await?;
    respond(answer, |object| enveloped(&object)).await
}

/// `GET …/ai/models/schema?model=`: the JSON Schemas of input and output. 5007 for a model that is not in the catalogue.
pub fn schema(query: &Value) -> Result<Response> {
    let model = query["model"].as_str().unwrap_or_default();
    if catalog_embeddings::find(model).is_some() {
        return Ok(envelope(&catalog_embeddings::published_schemas()));
    }
    match catalog::find(model) {
        Some(card) => Ok(envelope(&published_schemas(card.shape))),
        None => Err(AiError::no_such_model(model)),
    }
}

/// `GET …/ai/finetunes`: the LoRA adapters that requests can name.
pub fn finetunes(ai: &Ai) -> Response {
    let listed = ai.loras().into_iter().map(|(name, lora)| {
        json!({"id": id_of_lora(&name, &lora), "name": name, "model": lora.model.clone().unwrap_or_default(), "description": "", "public": 0})
    });
    envelope(&Value::Array(listed.collect()))
}

/// A successful response with `result` in the envelope.
pub fn envelope(result: &Value) -> Response {
    Response::json(200, &enveloped(result))
}

fn enveloped(result: &Value) -> Value {
    json!({"result": result, "success": true, "errors": [], "messages": []})
}
