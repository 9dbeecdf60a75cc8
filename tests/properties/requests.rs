//! The JSON of requests ([`TextGenerationRequest`]).

use crate::inputs::{Edit, edit, edited, junk, splice, spliced, text};
use crate::trial::{ANSWER, Outcome, check};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use workers_ai_local::error::{AiError, ErrorCode};
use workers_ai_local::input::{Prompt, TextGenerationRequest};

/// The fields of a request, and some that it does not have.
pub const FIELDS: &[&str] = &[
    "prompt",
    "messages",
    "raw",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "lora",
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "stop",
    "image",
    "requests",
    "reasoning_effort",
    "chat_template_kwargs",
    "parallel_tool_calls",
    "stream_options",
    "n",
    "role",
    "content",
    "tool_calls",
    "tool_call_id",
    "name",
    "parameters",
    "function",
    "type",
    "unknown",
];

/// Valid requests of every kind. `max_tokens` is 1 so that an answer costs little.
pub fn valid() -> impl Strategy<Value = Value> {
    let tool = json!({"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}});
    let user = json!({"role": "user", "content": "Hi"});
    select(vec![
        json!({"prompt": "Hi", "raw": true, "max_tokens": 1}),
        json!({"prompt": "Hi", "max_tokens": 1, "stream": true}),
        json!({"prompt": "Hi", "raw": true, "max_tokens": 1, "temperature": 1, "top_p": 0.9, "top_k": 5, "seed": 1, "stop": ["x"], "repetition_penalty": 1.1, "frequency_penalty": 1, "presence_penalty": 1}),
        json!({"messages": [user], "max_tokens": 1}),
        json!({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "max_tokens": 1, "stream": true, "stream_options": {"include_usage": true}}),
        json!({"messages": [user], "max_tokens": 1, "response_format": {"type": "json_schema", "json_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}}),
        json!({"messages": [user], "max_tokens": 1, "tools": [tool], "tool_choice": "required"}),
        json!({
            "messages": [
                user,
                {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
            ],
            "max_tokens": 1,
            "tools": [{"type": "function", "function": tool}],
            "chat_template_kwargs": {"enable_thinking": false},
            "reasoning_effort": "low",
        }),
    ])
}

/// A documented error with a text.
fn documented(error: &AiError) -> Outcome {
    let codes = [ErrorCode::BadInput, ErrorCode::InvalidData, ErrorCode::LoraUnsupported, ErrorCode::InvalidInput];
    prop_assert!(codes.contains(&error.code) && !error.text.is_empty(), "{}", error);
    Ok(error.to_string())
}

fn outcome(result: &Result<TextGenerationRequest, AiError>) -> Outcome {
    match result {
        Ok(_) => Ok(ANSWER.into()),
        Err(error) => documented(error),
    }
}

#[test]
fn any_json_is_a_request_or_an_error() {
    let inputs = prop_oneof![4 => (valid(), vec(edit(FIELDS), 0..4)).prop_map(|(value, edits): (Value, Vec<Edit>)| edited(value, &edits)), 1 => junk()];
    check("requests::any_json_is_a_request_or_an_error", 5000, inputs, |value| {
        let result = TextGenerationRequest::from_value(value.clone());
        let outcome = outcome(&result)?;
        let of_text = TextGenerationRequest::from_json(&value.to_string());
        // A text is not read as deep as a value may be.
        if !matches!(&of_text, Err(error) if error.text.contains("recursion limit")) {
            prop_assert_eq!(of_text, result, "its text is the same request");
        }
        Ok(outcome)
    });
}

#[test]
fn any_text_is_a_request_or_an_error() {
    let damaged = (valid(), vec(splice(), 1..4))
        .prop_map(|(value, splices)| String::from_utf8_lossy(&spliced(value.to_string().into_bytes(), &splices)).into_owned());
    check("requests::any_text_is_a_request_or_an_error", 5000, prop_oneof![4 => damaged, 1 => text()], |text| {
        let result = TextGenerationRequest::from_json(&text);
        if serde_json::from_str::<Value>(&text).is_err() {
            prop_assert_eq!(result.as_ref().err().map(|error| error.code), Some(ErrorCode::InvalidData));
        }
        outcome(&result)
    });
}

/// A number and whether the documentation allows it.
fn numbers(low: f64, high: f64, integer: bool) -> impl Strategy<Value = (Value, bool)> {
    let between = low..=high.min(1e10);
    let number = prop_oneof![3 => between, 1 => select(vec![low, high, low - 1.0, high + 1.0, low + 0.5, 0.0, -0.0, 1e300])];
    number.prop_map(move |number| {
        let number = if integer && (number * 4.0).fract() != 0.0 { number.floor() } else { number };
        let fits = (low..=high).contains(&number) && (!integer || number.fract() == 0.0);
        // A whole number is one in either notation.
        let whole = number.fract() == 0.0 && number.abs() < 1e15 && number.to_bits() % 3 != 0;
        (if whole { json!(number as i64) } else { json!(number) }, fits)
    })
}

#[test]
fn documented_ranges_are_kept() {
    let fields = (
        option::of(numbers(0.0, 5.0, false)),
        option::of(numbers(0.0, 2.0, false)),
        option::of(numbers(1.0, 50.0, true)),
        option::of(numbers(1.0, 9_999_999_999.0, true)),
        option::of(numbers(0.0, 2.0, false)),
        option::of(numbers(-2.0, 2.0, false)),
        option::of(numbers(-2.0, 2.0, false)),
        option::of(numbers(0.0, f64::MAX, true)),
    );
    let others =
        (text().prop_filter("not empty", |text| !text.is_empty()), option::of(any::<bool>()), option::of(any::<bool>()), vec(text(), 0..3));
    check("requests::documented_ranges_are_kept", 3000, (fields, others), |(fields, (prompt, raw, stream, stop))| {
        let (temperature, top_p, top_k, seed, repetition, frequency, presence, max_tokens) = fields;
        let named = [
            ("temperature", temperature),
            ("top_p", top_p),
            ("top_k", top_k),
            ("seed", seed),
            ("repetition_penalty", repetition),
            ("frequency_penalty", frequency),
            ("presence_penalty", presence),
            ("max_tokens", max_tokens),
        ];
        let mut input = Map::new();
        input.insert("prompt".into(), json!(prompt));
        input.extend(raw.map(|raw| ("raw".to_owned(), json!(raw))));
        input.extend(stream.map(|stream| ("stream".to_owned(), json!(stream))));
        input.insert("stop".into(), json!(stop));
        for (name, value) in &named {
            // `null` is absent.
            input.insert((*name).into(), value.as_ref().map_or(Value::Null, |(value, _)| value.clone()));
        }
        let wrong: Vec<&str> =
            named.iter().filter(|(_, value)| value.as_ref().is_some_and(|(_, fits)| !fits)).map(|(name, _)| *name).collect();
        let request = match TextGenerationRequest::from_value(Value::Object(input)) {
            Ok(request) => request,
            Err(error) => {
                prop_assert_eq!(error.code, ErrorCode::InvalidInput);
                prop_assert!(
                    wrong.iter().any(|name| error.text.contains(&format!("'/{name}'"))),
                    "{} although only {:?} are wrong",
                    error,
                    wrong
                );
                return Ok(error.to_string());
            }
        };
        prop_assert!(wrong.is_empty(), "{:?} are wrong", wrong);
        let number = |index: usize| named[index].1.as_ref().and_then(|(value, _)| value.as_f64());
        let sampling = &request.sampling;
        prop_assert_eq!(number(0).is_none_or(|value| sampling.temperature == value as f32), true);
        prop_assert_eq!(sampling.top_p, number(1).map(|value| value as f32).filter(|value| *value < 1.0), "1 and more have no effect");
        prop_assert_eq!(sampling.top_k, number(2).map(|value| value as usize));
        prop_assert_eq!(sampling.seed, number(3).map(|value| value as u64));
        prop_assert_eq!(
            sampling.repetition_penalty,
            number(4).map(|value| value as f32).filter(|value| ![0.0, 1.0].contains(value)),
            "0 and 1 have no effect"
        );
        prop_assert_eq!(
            (sampling.frequency_penalty, sampling.presence_penalty),
            (number(5).unwrap_or(0.0) as f32, number(6).unwrap_or(0.0) as f32)
        );
        prop_assert_eq!(request.max_tokens, number(7).map(|value| value as usize));
        prop_assert_eq!(request.stream, stream == Some(true));
        prop_assert_eq!(request.prompt, if raw == Some(true) { Prompt::Raw(prompt) } else { Prompt::Unscoped(prompt) });
        prop_assert_eq!(request.stop, stop.into_iter().filter(|stop| !stop.is_empty()).collect::<Vec<_>>());
        Ok(ANSWER.into())
    });
}
