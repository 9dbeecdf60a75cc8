//! HTTP: a request → a response, for the three surfaces on which Workers AI is reached.
//!
//! One handler for every runtime: the binding's own wire, REST, and OpenAI's chat completions. Lives here: paths, bodies
//! and envelopes. Does not live here: how a host receives requests and sends bytes (`js` and the package's entries).

mod cors;
mod openai;
mod path;
mod rest;

pub use cors::Cors;

use crate::ai::{Ai, Answer};
use crate::error::{AiError, ErrorCode, Result};
use crate::host::random_bytes;
use crate::input::TextGenerationRequest;
use crate::output::Dialect;
use path::Route;
use serde_json::{Value, json};

/// Longest body that is read. The longest prompt is 131,072 characters, so this is room for a long conversation.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// A request, with header names in lower case.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// Absolute or from the path on.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body was longer than [`MAX_BODY_BYTES`] and was not read.
    pub too_large: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, whatever its content type says: documented samples send none.
    fn json(&self) -> Result<Value> {
        if self.too_large || self.body.len() > MAX_BODY_BYTES {
            return Err(AiError::new(
                ErrorCode::RequestTooLarge,
                format!("Request is too large: the body has more than {MAX_BODY_BYTES} bytes. Send a shorter conversation."),
            ));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| AiError::invalid_data(format!("Invalid data: the body is not valid JSON in valid Unicode: {error}")))
    }
}

/// A response.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

/// What a response carries.
pub enum Body {
    Whole(Vec<u8>),
    /// Server-sent events, computed as they are read.
    Stream(Box<Answer>),
}

impl Response {
    fn json(status: u16, value: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: Body::Whole(value.to_string().into_bytes()) }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Answers a request. Errors are responses, in the form of their surface.
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
    let wanted = match &route {
        Route::BindingRun | Route::RestRun(_) | Route::ChatCompletions => "POST",
        _ => "GET",
    };
    if route == Route::BindingRun && request.header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        let text = "A WebSocket is not available locally. Leave options.websocket out.";
        return fail(&route, &AiError::new(ErrorCode::BadInput, text));
    }
    let method_fits = request.method == wanted || (wanted == "GET" && request.method == "HEAD");
    if !method_fits && !matches!(route, Route::Unknown(_)) {
        let text = format!("{} is not a method of this path: use {wanted}.", request.method);
        let mut response = fail(&route, &AiError::new(ErrorCode::BadInput, text)).with("allow", wanted);
        response.status = 405;
        return response;
    }
    let id = request_id();
    let response = match &route {
        Route::BindingRun => binding_run(ai, request).await,
        Route::BindingModels => Ok(Response::json(200, &json!({"result": crate::catalog::search(&query)}))),
        Route::RestRun(model) => rest::run(ai, model, request).await,
        Route::RestModels => Ok(rest::envelope(&json!(crate::catalog::search(&query)))),
        Route::RestSchema => rest::schema(&query),
        Route::ChatCompletions => openai::chat_completions(ai, request, &id).await,
        Route::OpenAiModels => Ok(openai::models(ai)),
        Route::OpenAiModel(model) => openai::model(ai, model),
        Route::Unknown(_) => Err(AiError::new(ErrorCode::NotFound, format!("No such path: {}.", path::of(&request.url)))),
    };
    response.unwrap_or_else(|error| fail(&route, &error)).with("cf-ai-req-id", id)
}

/// An error in the form of its surface.
fn fail(route: &Route, error: &AiError) -> Response {
    let (code, status) = error.code.numbers();
    let rest_errors = json!([{"code": code, "message": format!("AiError: {}", error.text)}]);
    let body = match route {
        Route::BindingRun => error.wire_body(),
        Route::ChatCompletions | Route::OpenAiModels | Route::OpenAiModel(_) | Route::Unknown(path::Surface::OpenAi) => {
            json!({"error": openai::error(error), "errors": rest_errors, "success": false, "result": {}, "messages": []})
        }
        _ => json!({"result": {}, "success": false, "errors": rest_errors, "messages": []}),
    };
    let response = Response::json(status, &body);
    // Room comes back as soon as a request ends; clients that try again should not wait for long.
    if error.code == ErrorCode::OutOfCapacity { response.with("retry-after", "1") } else { response }
}

/// `POST /run`: the model's id is a header, the body `{inputs, options}`, and answers come without an envelope.
async fn binding_run(ai: &Ai, request: &Request) -> Result<Response> {
    let bad = |text: &str| Err(AiError::new(ErrorCode::BadInput, text));
    let header = request.header("cf-consn-model-id").unwrap_or_default();
    // The prefix option stands before the id, with a colon between.
    let model = header.find(":@").map_or(header, |at| &header[at + 1..]);
    if request.url.contains("userInputs=") {
        return bad("A stream or FormData is no input for text generation: send an object with prompt or messages.");
    }
    let mut body = request.json()?;
    if body["options"]["queueRequest"] == Value::Bool(true) {
        return bad("The batch queue is not available locally. Leave options.queueRequest out.");
    }
    let inputs = body.get_mut("inputs").map(Value::take).unwrap_or_default();
    let answer = ai.answer(model, TextGenerationRequest::from_value(inputs), Dialect::Binding).await?;
    respond(answer, |object| object).await
}

/// A stream as it is, an object inside what `envelope` makes of it.
async fn respond(answer: Answer, envelope: impl FnOnce(Value) -> Value) -> Result<Response> {
    // Which file answered: with a stand-in, not the model that was asked for.
    let served_by = path::encode(answer.served_by());
    let response = if answer.is_stream() {
        let headers = vec![("content-type".into(), "text/event-stream".into()), ("cache-control".into(), "no-cache".into())];
        Response { status: 200, headers, body: Body::Stream(Box::new(answer)) }
    } else {
        Response::json(200, &envelope(answer.object().await?))
    };
    Ok(response.with("workers-ai-local-model", served_by))
}

/// A UUID (version 4), unique per request.
fn request_id() -> String {
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
