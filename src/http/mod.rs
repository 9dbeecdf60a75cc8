//! HTTP: a request → a response, for the three HTTP surfaces of Workers AI.
//!
//! One handler for every runtime serves the binding's wire protocol, REST, and OpenAI's chat completions, responses and embeddings. Contains paths,
//! bodies and
//! envelopes. Hosts receive requests and send bytes in `js` and the package's entries.

mod cors;
mod embeddings;
mod openai;
mod path;
mod rest;

pub use cors::Cors;

use crate::ai::{Ai, Answer, Api, Nonce};
use crate::error::{AiError, ErrorCode, Result};
use path::Route;
use serde_json::{Value, json};

/// Maximum length of a request's body in bytes. A prompt has at most 131,072 characters, so a long conversation fits.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// A request. Header names are in lower case.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// An absolute URL, or path and query only.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body is longer than [`MAX_BODY_BYTES`] and was not read.
    pub too_large: bool,
    /// The source of the answer's id, time and seed.
    pub nonce: Nonce,
}

impl Request {
    /// The first header with this name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Parses the body as JSON. Its content type is ignored, since the documented samples send none.
    ///
    /// # Errors
    ///
    /// 3006 if the body is too large, 5004 if it is not valid JSON.
    fn json(&self) -> Result<Value> {
        if self.too_large || self.body.len() > MAX_BODY_BYTES {
            return Err(AiError::new(
                ErrorCode::RequestTooLarge,
                format!("Request is too large: the body has more than {MAX_BODY_BYTES} bytes. Send a shorter conversation."),
            ));
        }
        // Some clients put a byte order mark in front (RFC 8259 allows to ignore it).
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        serde_json::from_slice(body)
            .map_err(|error| AiError::invalid_data(format!("Invalid data: the body is not valid JSON, or not valid Unicode: {error}")))
    }
}

/// A response.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// Another instance of the package is to answer, and nobody sees this response.
    pub needs_more_memory: bool,
}

/// The body of a response.
pub enum Body {
    /// The complete body.
    Whole(Vec<u8>),
    /// Server-sent events, computed while they are read.
    Stream(Box<Answer>),
}

impl Response {
    fn json(status: u16, value: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: Body::Whole(value.to_string().into_bytes()), needs_more_memory: false }
    }

    /// Adds a header.
    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Answers a request. Errors become responses too, in the format of the request's surface.
pub async fn handle(ai: &Ai, cors: &Cors, request: &Request) -> Response {
    let mut response = match cors.preflight(request) {
        Some(preflight) => preflight,
        None => route(ai, request).await,
    };
    cors.allow(request, &mut response);
    response
}

async fn route(ai: &Ai, request: &Request) -> Response {
    let (route, query) = path::parse(&request.url);
    let method = match &route {
        Route::BindingRun | Route::RestRun(_) | Route::ChatCompletions | Route::Responses | Route::Embeddings => "POST",
        _ => "GET",
    };
    if route == Route::BindingRun && request.header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        let text = "A WebSocket is not available locally. Leave options.websocket out.";
        return error_response(&route, &AiError::new(ErrorCode::BadInput, text));
    }
    let method_allowed = request.method == method || (method == "GET" && request.method == "HEAD");
    if !method_allowed && !matches!(route, Route::Unknown(_)) {
        let text = format!("The method {} is not allowed for this path. Use {method}.", request.method);
        let mut response = error_response(&route, &AiError::new(ErrorCode::BadInput, text)).with("allow", method);
        response.status = 405;
        return response;
    }
    let id = request.nonce.request_id();
    let response = match &route {
        Route::BindingRun => binding_run(ai, request).await,
        Route::BindingModels => Ok(Response::json(200, &json!({"result": crate::listing::search(&query)}))),
        Route::RestRun(model) => rest::run(ai, model, &query, request).await,
        Route::RestModels => Ok(rest::envelope(&json!(crate::listing::search(&query)))),
        Route::RestSchema => rest::schema(&query),
        Route::RestFinetunes => Ok(rest::finetunes(ai)),
        Route::ChatCompletions => openai::answer(ai, request, Api::ChatCompletions).await,
        Route::Responses => openai::answer(ai, request, Api::Responses).await,
        Route::Embeddings => embeddings::embeddings(ai, request).await,
        Route::OpenAiModels => Ok(openai::models(ai)),
        Route::OpenAiModel(model) => openai::model(ai, model),
        Route::Unknown(_) => Err(AiError::new(ErrorCode::NotFound, format!("No such path: {}.", path::of(&request.url)))),
    };
    response.unwrap_or_else(|error| error_response(&route, &error)).with("cf-ai-req-id", id)
}

/// The response to a failed request, in the format of the route's surface.
fn error_response(route: &Route, error: &AiError) -> Response {
    let (code, status) = error.code.numbers();
    let rest_errors = json!([{"code": code, "message": format!("AiError: {}", error.text)}]);
    let body = match route {
        Route::BindingRun => error.wire_body(),
        Route::ChatCompletions
        | Route::Responses
        | Route::Embeddings
        | Route::OpenAiModels
        | Route::OpenAiModel(_)
        | Route::Unknown(path::Surface::OpenAi) => {
            json!({"error": openai::error(error), "errors": rest_errors, "success": false, "result": {}, "messages": []})
        }
        _ => json!({"result": {}, "success": false, "errors": rest_errors, "messages": []}),
    };
    let response = Response { needs_more_memory: error.code == ErrorCode::NeedsMoreMemory, ..Response::json(status, &body) };
    // Capacity is free again as soon as any request ends, so clients should retry soon.
    if error.code == ErrorCode::OutOfCapacity { response.with("retry-after", "1") } else { response }
}

/// `POST /run`, the binding's wire protocol: the model's id is in a header, the body is `{inputs, options}`, the answer has no envelope.
async fn binding_run(ai: &Ai, request: &Request) -> Result<Response> {
    let bad = |text: &str| Err(AiError::new(ErrorCode::BadInput, text));
    let header = request.header("cf-consn-model-id").unwrap_or_default();
    // The option `prefix` precedes the id, separated by a colon.
    let model = header.find(":@").and_then(|colon| header.get(colon + 1..)).unwrap_or(header);
    if request.url.contains("userInputs=") {
        return bad("A stream or FormData is not a valid input for text generation. Send an object with prompt or messages.");
    }
    let mut body = request.json()?;
    if body["options"]["queueRequest"] == Value::Bool(true) {
        return Err(queue_without_batch());
    }
    let inputs = body.get_mut("inputs").map(Value::take).unwrap_or_default();
    let answer = ai.answer(model, Ok(inputs), Api::Run, request.nonce).await?;
    respond(answer, |object| object).await
}

/// 3003: a request is to be queued that is no batch. Batches are queued before they come here (`pkg/batch.js`).
fn queue_without_batch() -> AiError {
    AiError::new(ErrorCode::BadInput, "queueRequest is for batches: send {requests: [...]} as the input.")
}

/// The response with an answer: the stream unchanged, or the object after `envelope` has wrapped it.
async fn respond(answer: Answer, envelope: impl FnOnce(Value) -> Value) -> Result<Response> {
    // The file that computed the answer. It may be the default model's, not the requested model's.
    let served_by = path::encode(answer.served_by());
    let response = if answer.is_stream() {
        let headers = vec![("content-type".into(), "text/event-stream".into()), ("cache-control".into(), "no-cache".into())];
        Response { status: 200, headers, body: Body::Stream(Box::new(answer)), needs_more_memory: false }
    } else {
        Response::json(200, &envelope(answer.object().await?))
    };
    Ok(response.with("workers-ai-local-model", served_by))
}
