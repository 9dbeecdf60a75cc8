//! HTTP requests of any kind ([`handle`]): the response is a documented one, in the form of its surface.

use crate::common::{LLAMA31, TinyModel, ai_with};
use crate::inputs::{edit, edited, splice, spliced, text};
use crate::requests::{FIELDS, valid};
use crate::trial::{ANSWER, Outcome, check};
use candle_core::quantized::gguf_file;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::collections::HashMap;
use workers_ai_local::ai::{Ai, Nonce};
use workers_ai_local::engine::Limits;
use workers_ai_local::error::ErrorCode;
use workers_ai_local::http::{Body, Cors, Request, Response, handle};

const API: &str = "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef/ai";

/// The form of errors.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Surface {
    Binding,
    Rest,
    OpenAi,
}

fn url(surface: Surface) -> String {
    match surface {
        Surface::Binding => "https://workers-binding.ai/run?version=3".into(),
        Surface::Rest => format!("{API}/run/{LLAMA31}"),
        Surface::OpenAi => format!("{API}/v1/chat/completions"),
    }
}

fn body(surface: Surface, mut input: Value) -> Value {
    match surface {
        Surface::Binding => json!({"inputs": input, "options": {}}),
        Surface::Rest => input,
        Surface::OpenAi => {
            input["model"] = json!(LLAMA31);
            input
        }
    }
}

fn surface() -> impl Strategy<Value = Surface> {
    select(vec![Surface::Binding, Surface::Rest, Surface::OpenAi])
}

/// What requests to a surface need.
fn headers(surface: Surface) -> Vec<(String, String)> {
    if surface == Surface::Binding { vec![("cf-consn-model-id".into(), LLAMA31.into())] } else { Vec::new() }
}

const HEADERS: &[(&str, &str)] = &[
    ("cf-consn-model-id", ""),
    ("cf-consn-model-id", "@cf/x/y"),
    ("cf-consn-model-id", ":@"),
    ("cf-consn-model-id", "::::é"),
    ("content-type", "text/plain"),
    ("content-length", "-1"),
    ("upgrade", "WebSocket"),
    ("origin", "null"),
    ("origin", "https://a.example"),
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "x, é"),
    ("accept", "text/event-stream"),
];

fn more_headers() -> impl Strategy<Value = Vec<(String, String)>> {
    prop_oneof![2 => Just(Vec::new()), 1 => vec(select(HEADERS).prop_map(|(name, value)| (name.to_owned(), value.to_owned())), 1..3)]
}

fn cors() -> impl Strategy<Value = Cors> {
    select(vec![Cors::Off, Cors::Off, Cors::Any, Cors::Origins(vec!["https://a.example".into()])])
}

const PATHS: &[&str] = &[
    "/run",
    "/ai-gateway/run",
    "/ai-api/models/search",
    "/v1/models",
    "/v1/chat/completions",
    "/v1",
    "/v1/models/@cf/meta/llama-3.1-8b-instruct",
    "/v1/models/%40cf%2fmeta%2fx",
    "/client/v4/accounts/a/ai/run/@cf/x/y",
    "/client/v4/accounts/a/ai/models/search",
    "/client/v4/accounts/a/ai/models/schema",
    "/client/v4/accounts/a/ai/v1/models",
    "/client/v4/accounts/a/ai/v1/chat/completions",
    "/client/v4/accounts",
    "/client/v4/accounts//ai/run/",
    "/",
    "",
];
const PATH_PARTS: &[&str] = &[
    "%",
    "%2",
    "%zz",
    "%00",
    "%2F",
    "%2f..%2f",
    "%ff%fe",
    "%ed%a0%80",
    "%F0%9F%98%80",
    "..",
    "//",
    "/./",
    ";a=b",
    "\\",
    "é",
    "日本",
    "+",
    "@cf",
    ":",
    "*",
    "'",
    "{}",
    "?",
    "#",
    "/",
    "://",
];
const QUERIES: &[&str] = &[
    "",
    "",
    "?version=3",
    "?&&&",
    "?=",
    "?a=%",
    "?a=%zz&b=%ff",
    "?page=-1",
    "?page=1e99&per_page=0",
    "?per_page=99999999999999999999",
    "?page=18446744073709551615&per_page=18446744073709551615",
    "?search=%00",
    "?search=LLAMA&page=2",
    "?task=👩",
    "?model=",
    "?model=@cf/meta/llama-3.1-8b-instruct",
    "?userInputs=1",
    "?author=%25",
    "?source=1",
];

/// A URL of known and unknown pieces.
fn any_url() -> impl Strategy<Value = String> {
    let origin = select(vec!["", "https://workers-binding.ai", "http://a", "http://[", "x://"]);
    let path = prop_oneof![
        2 => select(PATHS).prop_map(str::to_owned),
        1 => (select(PATHS), vec(splice(), 1..3)).prop_map(|(path, splices)| String::from_utf8_lossy(&spliced(path.into(), &splices)).into_owned()),
        1 => (select(PATHS), vec(select(PATH_PARTS), 1..3)).prop_map(|(path, parts)| path.to_owned() + &parts.concat()),
        1 => text(),
    ];
    (origin, path, select(QUERIES)).prop_map(|(origin, path, query)| format!("{origin}{path}{query}"))
}

const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get", "", "é"];

const TOO_DEEP: usize = 300;

fn request() -> impl Strategy<Value = (Request, Option<Surface>)> {
    let json = (surface(), valid(), vec(edit(FIELDS), 0..3), more_headers()).prop_map(|(surface, value, edits, more)| {
        let body = edited(body(surface, value), &edits).to_string().into_bytes();
        // Of two headers with one name the first counts.
        (
            Request {
                method: "POST".into(),
                url: url(surface),
                headers: more.into_iter().chain(headers(surface)).collect(),
                body,
                ..Request::default()
            },
            Some(surface),
        )
    });
    let damaged = (surface(), valid(), vec(splice(), 1..4), any::<bool>()).prop_map(|(surface, value, splices, too_large)| {
        let body = spliced(body(surface, value).to_string().into_bytes(), &splices);
        (
            Request {
                method: "POST".into(),
                url: url(surface),
                headers: headers(surface),
                body,
                too_large: too_large && splices.len() == 3,
                ..Request::default()
            },
            Some(surface),
        )
    });
    let bytes = vec(any::<u8>(), 0..20);
    let nested = (surface(), 1..TOO_DEEP).prop_map(|(surface, depth)| {
        let body =
            format!("{{\"inputs\":{{\"prompt\":\"a\",\"max_tokens\":1,\"x\":{}{}}}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
        (Request { method: "POST".into(), url: url(surface), headers: headers(surface), body, ..Request::default() }, Some(surface))
    });
    let anything = (any_url(), select(METHODS), more_headers(), surface(), bytes).prop_map(|(url, method, more, surface, body)| {
        (
            Request { method: method.into(), url, headers: more.into_iter().chain(headers(surface)).collect(), body, ..Request::default() },
            None,
        )
    });
    prop_oneof![4 => json, 2 => damaged, 1 => nested, 4 => anything]
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The status of each documented code.
fn statuses() -> HashMap<u64, u16> {
    ErrorCode::ALL.iter().map(|code| (u64::from(code.internal()), code.http_status())).collect()
}

/// Checks that a body is an error in a documented form, and returns its code and text.
fn error_in(body: &Value, surface: Option<Surface>) -> Result<(u64, String), TestCaseError> {
    let form = if body.get("internalCode").is_some() {
        Surface::Binding
    } else if body.get("error").is_some() {
        Surface::OpenAi
    } else {
        Surface::Rest
    };
    prop_assert!(surface.is_none_or(|surface| surface == form), "an error in the form of {form:?}: {body}");
    if form == Surface::Binding {
        let (code, description) = (body["internalCode"].as_u64().unwrap_or_default(), body["description"].as_str().unwrap_or_default());
        prop_assert_eq!(
            body,
            &json!({"name": "AiError", "internalCode": code, "httpCode": statuses().get(&code), "message": format!("AiError: {description}"), "description": description})
        );
        return Ok((code, description.to_owned()));
    }
    let (code, message) =
        (body["errors"][0]["code"].as_u64().unwrap_or_default(), body["errors"][0]["message"].as_str().unwrap_or_default());
    let text = message.strip_prefix("AiError: ").unwrap_or_default().to_owned();
    let envelope = json!({"result": {}, "success": false, "errors": [{"code": code, "message": message}], "messages": []});
    for (key, value) in envelope.as_object().expect("an object") {
        prop_assert_eq!(&body[key], value);
    }
    prop_assert!(!text.is_empty(), "no text: {body}");
    if form == Surface::OpenAi {
        prop_assert_eq!(&body["error"]["message"], &json!(format!("{code}: {text}")));
        prop_assert_eq!(&body["error"]["code"], &json!(code));
    }
    Ok((code, text))
}

/// Reads the response and checks it.
fn documented(request: &Request, surface: Option<Surface>, response: Response) -> Outcome {
    let status = response.status;
    let content_type = header(&response, "content-type").map(str::to_owned);
    let (allows, id) = (header(&response, "allow").is_some(), header(&response, "cf-ai-req-id").map(str::to_owned));
    prop_assert!(
        response.headers.iter().all(|(name, value)| !name.contains(char::is_uppercase) && !value.contains(['\r', '\n', '\0']))
            || request.headers.iter().any(|(_, value)| value.contains(['\r', '\n', '\0']))
    );
    let whole = match response.body {
        Body::Whole(bytes) => bytes,
        Body::Stream(mut answer) => {
            prop_assert_eq!((status, content_type.as_deref()), (200, Some("text/event-stream")));
            let mut last = String::new();
            loop {
                match pollster::block_on(answer.next_chunk()) {
                    Ok(Some(events)) => {
                        let events = String::from_utf8(events).map_err(|error| TestCaseError::fail(error.to_string()))?;
                        for event in events.split_terminator("\n\n") {
                            let data =
                                event.strip_prefix("data: ").ok_or_else(|| TestCaseError::fail(format!("not an event: {event:?}")))?;
                            prop_assert!(
                                data == "[DONE]" || serde_json::from_str::<Value>(data).is_ok_and(|data| data.is_object()),
                                "{:?}",
                                data
                            );
                            last = data.to_owned();
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return Ok(error.to_string()),
                }
            }
            prop_assert_eq!(last, "[DONE]");
            return Ok("stream".into());
        }
    };
    if status == 204 {
        prop_assert!(whole.is_empty() && request.method == "OPTIONS");
        return Ok("preflight".into());
    }
    prop_assert_eq!(content_type.as_deref(), Some("application/json"));
    let body: Value = serde_json::from_slice(&whole).map_err(|error| TestCaseError::fail(format!("the body is not JSON: {error}")))?;
    if status == 200 {
        prop_assert!(id.is_some(), "every answer has an id");
        prop_assert!(body.is_object());
        return Ok(ANSWER.into());
    }
    let (code, text) = error_in(&body, surface)?;
    // A method that the path does not have is 405, whatever the code.
    let expected = if allows { Some(405) } else { statuses().get(&code).copied() };
    prop_assert_eq!(Some(status), expected, "{}", body);
    // These repeat the path, the id or the method.
    let text = if [3042, 5007].contains(&code) || allows { text.split([':', '@']).next().unwrap_or_default().to_owned() } else { text };
    Ok(format!("{code}: {text}"))
}

/// An `Ai` whose answers cost little: 600 positions of a tiny model.
fn ai() -> Ai {
    let metadata = vec![("llama.context_length".into(), gguf_file::Value::U32(600))];
    let file = TinyModel { width: 32, heads: 2, kv_heads: 1, ffn_width: 32, layers: 1, metadata, ..TinyModel::default() }.gguf();
    ai_with(file, Limits::default()).0
}

#[test]
fn any_request_has_a_documented_response() {
    let ai = ai();
    check(
        "http::any_request_has_a_documented_response",
        1500,
        (request(), cors(), any::<[u8; 16]>()),
        |((request, surface), cors, random)| {
            let request = Request { nonce: Nonce { random, created: 1, ticket: 0 }, ..request };
            let outcome = documented(&request, surface, pollster::block_on(handle(&ai, &cors, &request)))?;
            prop_assert!(ai.loaded().iter().all(|model| model.activity().0 == 0), "a request is still in progress");
            Ok(outcome)
        },
    );
}
