//! Tools, JSON mode and the HTTP surfaces with the real model, in native Rust.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{LLAMA31, ai_with, real_model, start};
use serde_json::{Value, json};
use workers_ai_local::ai::{Ai, Api, Nonce};
use workers_ai_local::engine::Limits;
use workers_ai_local::error::Result;
use workers_ai_local::http::{Body, Cors, Request, Response, handle};

fn ai() -> Ai {
    ai_with(real_model(), Limits::default()).0
}

async fn object(ai: &Ai, input: Value) -> Result<Value> {
    ai.answer(LLAMA31, Ok(input), Api::Run, Nonce::default()).await?.object().await
}

/// The parsed events of a stream. The last one is `[DONE]`.
async fn events(ai: &Ai, mut input: Value) -> Result<Vec<Value>> {
    input["stream"] = true.into();
    let mut answer = ai.answer(LLAMA31, Ok(input), Api::Run, Nonce::default()).await?;
    let mut text = String::new();
    while let Some(chunk) = answer.next_chunk().await? {
        text += &String::from_utf8(chunk).expect("text");
    }
    Ok(parsed(&text))
}

fn parsed(text: &str) -> Vec<Value> {
    let data = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("one line of data"));
    data.map(|data| if data == "[DONE]" { json!(data) } else { serde_json::from_str(data).expect("JSON") }).collect()
}

fn weather() -> Value {
    json!({"name": "get_weather", "description": "The weather in a city.", "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
    }})
}

#[test]
fn json_mode_returns_an_object_that_matches_the_schema() {
    let ai = ai();
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
    });
    pollster::block_on(async {
        for (temperature, seed) in [(0.0, 1), (5.0, 3)] {
            let input = json!({"prompt": "Describe Ada Lovelace.", "temperature": temperature, "seed": seed,
                "response_format": {"type": "json_schema", "json_schema": schema}});
            let answer = object(&ai, input.clone()).await.expect("an object");
            let response = &answer["response"];
            assert!(response["name"].as_str().is_some_and(|name| name.chars().count() <= 12), "{response}");
            assert!(response["age"].as_u64().is_some_and(|age| age <= 130), "{response}");
            assert!(response["tags"].as_array().is_some_and(|tags| (1..=3).contains(&tags.len())), "{response}");
            assert_eq!(answer["finish_reason"], "stop");
            let streamed: String =
                events(&ai, input).await.expect("a stream").iter().filter_map(|event| event["response"].as_str()).collect();
            assert_eq!(&serde_json::from_str::<Value>(&streamed).expect("JSON"), response, "the same seed, the same object");
        }
        let cut = json!({"prompt": "A person.", "max_tokens": 3, "response_format": {"type": "json_schema", "json_schema": schema}});
        assert_eq!(object(&ai, cut.clone()).await.expect_err("cut off").to_string(), "5024: JSON Mode couldn't be met");
        assert!(events(&ai, cut).await.is_err());
        let computed = ai.loaded()[0].activity().1;
        let unsupported =
            json!({"prompt": "a", "response_format": {"type": "json_schema", "json_schema": {"type": "string", "not": {"const": "a"}}}});
        assert!(object(&ai, unsupported).await.expect_err("not").to_string().starts_with("5006: "));
        let impossible = json!({"prompt": "a", "response_format": {"type": "json_schema", "json_schema": {"type": "integer", "minimum": 3, "maximum": 2}}});
        assert!(object(&ai, impossible).await.expect_err("impossible").to_string().starts_with("5006: "));
        assert_eq!(ai.loaded()[0].activity().1, computed, "nothing was computed");
    });
}

#[test]
fn forced_calls_are_complete_and_match_the_schema() {
    let ai = ai();
    pollster::block_on(async {
        let question = json!([{"role": "user", "content": "What is the weather in Ghent?"}]);
        let choices = [json!("required"), json!({"type": "function", "function": {"name": "get_weather"}})];
        for (seed, choice) in (1..).zip(&choices) {
            let input = json!({"messages": question, "tools": [weather()], "tool_choice": choice, "seed": seed, "temperature": 1.5});
            let answer = object(&ai, input.clone()).await.expect("a call");
            assert_eq!((&answer["response"], &answer["finish_reason"]), (&Value::Null, &json!("tool_calls")));
            let call = &answer["tool_calls"][0];
            assert_eq!(call["name"], "get_weather");
            assert!(
                call["arguments"]["city"].is_string()
                    && ["celsius", "fahrenheit"].contains(&call["arguments"]["unit"].as_str().unwrap_or("")),
                "{call}"
            );
            let events = events(&ai, input).await.expect("a stream");
            let streamed = &events[0]["tool_calls"][0];
            assert_eq!((&streamed["index"], &streamed["function"]["name"]), (&json!(0), &json!("get_weather")));
            let arguments: Value = serde_json::from_str(streamed["function"]["arguments"].as_str().expect("text")).expect("JSON");
            assert_eq!(&arguments, &call["arguments"], "the same seed, the same call");
            assert_eq!(events[events.len() - 2]["finish_reason"], "tool_calls");
            assert_eq!(events[events.len() - 1], "[DONE]");
        }
        // When few tokens remain, the closing path completes the call.
        let rambling = json!({"name": "note", "parameters": {"type": "object", "properties": {"text": {"type": "string"}, "n": {"type": "integer", "minimum": 10}}, "required": ["text", "n"]}});
        for max_tokens in [20, 45] {
            let input = json!({"messages": question, "tools": [rambling], "tool_choice": "required", "seed": 1, "temperature": 3, "max_tokens": max_tokens});
            let answer = object(&ai, input).await.expect("a call");
            assert!(answer["tool_calls"][0]["arguments"]["n"].as_u64().is_some_and(|n| n >= 10), "{answer}");
            assert!(answer["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens <= max_tokens));
        }
        // With a free choice, the answer is text or a call that matches the schema.
        let free = json!({"messages": question, "tools": [weather()], "temperature": 0, "max_tokens": 60});
        let answer = object(&ai, free).await.expect("an answer");
        assert!(answer["tool_calls"].is_array(), "{answer}");
        assert!(answer["response"].is_string() || answer["tool_calls"][0]["arguments"]["city"].is_string(), "{answer}");
    });
}

#[test]
fn the_second_turn_accepts_both_forms_of_tool_turns() {
    let ai = ai();
    pollster::block_on(async {
        let call = json!({"name": "get_weather", "arguments": "{\"city\": \"Ghent\", \"unit\": \"celsius\"}"});
        let newer = json!([
            {"role": "user", "content": "What is the weather in Ghent?"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "abc", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": "abc", "content": "{\"sky\": \"clear\"}"},
        ]);
        let older = json!([
            {"role": "user", "content": "What is the weather in Ghent?"},
            {"role": "assistant", "content": "{\"name\":\"get_weather\",\"arguments\":{\"city\": \"Ghent\", \"unit\": \"celsius\"}}"},
            {"role": "tool", "name": "get_weather", "content": "{\"sky\": \"clear\"}"},
        ]);
        let mut prompts = Vec::new();
        for messages in [newer, older] {
            let input = json!({"messages": messages, "tools": [weather()], "tool_choice": "none", "temperature": 0, "max_tokens": 20});
            let answer = object(&ai, input).await.expect("an answer");
            assert_eq!(answer["tool_calls"], json!([]));
            prompts.push((answer["usage"]["prompt_tokens"].clone(), answer["response"].clone()));
        }
        assert_eq!(prompts[0], prompts[1], "both forms are the same conversation");
    });
}

#[test]
fn a_grammar_does_not_constrain_other_requests() {
    let ai = ai();
    pollster::block_on(async {
        let free = json!({"prompt": "Name three colours.", "temperature": 0, "max_tokens": 12});
        let alone = object(&ai, free.clone()).await.expect("text");
        let mut generation = start(&ai, LLAMA31, json!({"prompt": "A person.", "response_format": {"type": "json_object"}, "seed": 1}))
            .await
            .expect("started");
        generation.next().await.expect("a part");
        assert_eq!(object(&ai, free).await.expect("text")["response"], alone["response"]);
    });
}

async fn send(ai: &Ai, method: &str, url: &str, headers: &[(&str, &str)], body: Value) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    handle(ai, &Cors::Off, &Request { method: method.into(), url: url.into(), headers, body, ..Request::default() }).await
}

async fn body_of(response: Response) -> String {
    match response.body {
        Body::Whole(bytes) => String::from_utf8(bytes).expect("text"),
        Body::Stream(mut answer) => {
            let mut text = String::new();
            while let Some(chunk) = answer.next_chunk().await.expect("a chunk") {
                text += &String::from_utf8(chunk).expect("text");
            }
            text
        }
    }
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&body_of(response).await).expect("JSON")
}

#[test]
fn every_surface_answers_in_its_own_format() {
    let ai = ai();
    let account = "http://127.0.0.1:8788/client/v4/accounts/0a1b/ai";
    let input = json!({"prompt": "Hi", "temperature": 0, "max_tokens": 4});
    pollster::block_on(async {
        let direct = object(&ai, input.clone()).await.expect("an object");

        let wire = [("cf-consn-model-id", "any:@cf/meta/llama-3.1-8b-instruct")];
        let response = send(&ai, "POST", "https://workers-binding.ai/run?version=3", &wire, json!({"inputs": input, "options": {}})).await;
        assert_eq!(response.status, 200);
        assert!(response.headers.contains(&("content-type".into(), "application/json".into())));
        assert_eq!(json_of(response).await["response"], direct["response"]);

        let response = send(&ai, "POST", &format!("{account}/run/@cf%2Fmeta%2Fllama-3.1-8b-instruct"), &[], input.clone()).await;
        let envelope = json_of(response).await;
        assert_eq!((&envelope["success"], &envelope["result"]["response"]), (&json!(true), &direct["response"]));

        let chat = json!({"model": LLAMA31, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_tokens": 4});
        let completion = json_of(send(&ai, "POST", &format!("{account}/v1/chat/completions"), &[], chat.clone()).await).await;
        assert_eq!(completion["choices"][0]["message"]["content"], direct["response"]);
        assert_eq!(completion["choices"][0]["finish_reason"], "length");

        let mut streamed = chat.clone();
        streamed["stream"] = true.into();
        streamed["stream_options"] = json!({"include_usage": true});
        let chunks = parsed(&body_of(send(&ai, "POST", "/v1/chat/completions", &[], streamed).await).await);
        let (done, chunks) = chunks.split_last().expect("chunks");
        assert_eq!(done, "[DONE]");
        assert!(chunks.iter().all(|chunk| chunk["choices"].is_array()));
        let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(json!(text), direct["response"]);
        let last = chunks.last().expect("a chunk");
        assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(4)));

        let missing =
            json_of(send(&ai, "POST", "/run?version=3", &[("cf-consn-model-id", "@cf/x/y")], json!({"inputs": input})).await).await;
        assert_eq!((&missing["internalCode"], &missing["description"]), (&json!(5007), &json!("No such model @cf/x/y or task")));
        let missing = send(&ai, "POST", &format!("{account}/run/@cf/x/y"), &[], input.clone()).await;
        assert_eq!(missing.status, 400);
        assert_eq!(json_of(missing).await["errors"][0]["code"], 5007);
        let mut unknown = chat;
        unknown["model"] = "@cf/x/y".into();
        assert_eq!(json_of(send(&ai, "POST", "/v1/chat/completions", &[], unknown).await).await["error"]["code"], 5007);

        let mut large = Request { method: "POST".into(), url: format!("{account}/run/{LLAMA31}"), too_large: true, ..Request::default() };
        assert_eq!(handle(&ai, &Cors::Off, &large).await.status, 413);
        large.too_large = false;
        large.body = b"{\"prompt\": \"\\ud800\"}".to_vec();
        assert_eq!(json_of(handle(&ai, &Cors::Off, &large).await).await["errors"][0]["code"], 5004);

        let models = json_of(send(&ai, "GET", &format!("{account}/models/search?per_page=2&page=1"), &[], Value::Null).await).await;
        assert_eq!(models["result"].as_array().map(Vec::len), Some(2));
        assert_eq!(json_of(send(&ai, "GET", "/v1/models/@cf%2Fmeta%2Fllama-3.1-8b-instruct", &[], Value::Null).await).await["id"], LLAMA31);
        assert_eq!(send(&ai, "GET", "/nothing", &[], Value::Null).await.status, 404);
        assert_eq!(send(&ai, "DELETE", "/v1/models", &[], Value::Null).await.status, 405);
    });
}
