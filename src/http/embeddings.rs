//! OpenAI's embeddings.

use super::{Request, Response, path};
use crate::ai::Ai;
use crate::error::{AiError, Result};
use serde_json::{Value, json};

/// `POST …/v1/embeddings`.
pub async fn embeddings(ai: &Ai, request: &Request) -> Result<Response> {
    let Value::Object(mut fields) = request.json()? else {
        return Err(AiError::invalid_input("Type mismatch of '/', 'object' expected"));
    };
    fields.retain(|_, value| !value.is_null());
    let Some(Value::String(model)) = fields.remove("model") else {
        return Err(AiError::invalid_input("required properties at '/' are 'model': name a model, for instance @cf/baai/bge-base-en-v1.5"));
    };
    let base64 = match fields.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(AiError::invalid_input("'/encoding_format' must be one of 'float', 'base64'")),
    };
    let input = fields.remove("input").ok_or_else(|| AiError::invalid_input("required properties at '/' are 'input'"))?;
    let first = input.get(0).unwrap_or(&input);
    if first.is_number() || first.is_array() {
        return Err(AiError::invalid_input("'/input' has tokens, which belong to another model's vocabulary. Send texts"));
    }
    let dimensions = fields.get("dimensions").cloned();
    let embedded = ai.embed(&model, Ok(json!({"text": input}))).await?;
    let Value::Array(vectors) = &embedded.object["data"] else {
        return Err(AiError::invalid_data("The answer has no vectors."));
    };
    let width = vectors.first().and_then(Value::as_array).map_or(0, Vec::len);
    if let Some(wanted) = dimensions.filter(|wanted| *wanted != json!(width)) {
        return Err(AiError::invalid_input(format!("'/dimensions' is {wanted}, and the vectors of this model have {width}. Leave it out")));
    }
    let embedding = |vector: &Value| if base64 { Value::from(encoded(vector)) } else { vector.clone() };
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": embedding(vector)}))
        .collect();
    let usage = json!({"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens});
    let response = Response::json(200, &json!({"object": "list", "data": data, "model": model, "usage": usage}));
    Ok(response.with("workers-ai-local-model", path::encode(&embedded.served_by)))
}

/// A vector's numbers in single precision, least significant byte first, as base64.
fn encoded(vector: &Value) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let numbers = vector.as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| (number.as_f64().unwrap_or_default() as f32).to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().chain([0, 0].iter()).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        for digit in 0..4 {
            text.push(if digit <= three.len() { char::from(DIGITS[bits >> (18 - 6 * digit) & 63]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_as_base64() {
        assert_eq!(encoded(&json!([])), "");
        assert_eq!(encoded(&json!([1.0])), "AACAPw==");
        assert_eq!(encoded(&json!([1.0, -0.5])), "AACAPwAAAL8=");
        assert_eq!(encoded(&json!([1.0, -0.5, 0.1])), "AACAPwAAAL/NzMw9");
    }
}
