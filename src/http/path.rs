//! Paths → routes, and percent-encoding.

use serde_json::{Map, Value};

/// The surface that an unknown path belongs to. It determines the format of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    OpenAi,
    Other,
}

/// The operation that a path selects. Strings are decoded model ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    BindingRun,
    BindingModels,
    RestRun(String),
    RestModels,
    RestSchema,
    RestFinetunes,
    ChatCompletions,
    Responses,
    Embeddings,
    OpenAiModels,
    OpenAiModel(String),
    Unknown(Surface),
}

/// The route of a URL and its query parameters, an object of strings.
pub fn parse(url: &str) -> (Route, Value) {
    let path = of(url);
    let query = url.split_once('?').map_or("", |(_, query)| query.split('#').next().unwrap_or_default());
    (route(path), parameters(query))
}

/// The path of a URL, still percent-encoded.
pub fn of(url: &str) -> &str {
    let without_origin = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"));
    without_origin.split(['?', '#']).next().unwrap_or_default()
}

fn route(path: &str) -> Route {
    let trimmed = path.trim_end_matches('/');
    match trimmed {
        "/run" | "/ai-gateway/run" => return Route::BindingRun,
        "/ai-api/models/search" => return Route::BindingModels,
        _ => {}
    }
    if let Some(rest) = trimmed.strip_prefix("/v1").filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        return openai(rest);
    }
    let after_account = trimmed.strip_prefix("/client/v4/accounts/").and_then(|rest| rest.split_once('/'));
    let after_ai = after_account.and_then(|(_, rest)| rest.strip_prefix("ai")).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let Some(rest) = after_ai else { return Route::Unknown(Surface::Other) };
    match rest {
        "/models/search" => Route::RestModels,
        "/models/schema" => Route::RestSchema,
        "/finetunes" => Route::RestFinetunes,
        _ => match (rest.strip_prefix("/run/"), rest.strip_prefix("/v1")) {
            (Some(model), _) => Route::RestRun(decode(model)),
            (_, Some(rest)) => openai(rest),
            _ => Route::Unknown(Surface::Other),
        },
    }
}

fn openai(rest: &str) -> Route {
    match rest {
        "/chat/completions" => Route::ChatCompletions,
        "/responses" => Route::Responses,
        "/embeddings" => Route::Embeddings,
        "/models" => Route::OpenAiModels,
        _ => match rest.strip_prefix("/models/") {
            Some(model) => Route::OpenAiModel(decode(model)),
            None => Route::Unknown(Surface::OpenAi),
        },
    }
}

/// Query parameters as an object of strings. If a name occurs several times, the last value counts.
fn parameters(query: &str) -> Value {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(&name.replace('+', " ")), Value::String(decode(&value.replace('+', " "))))
    });
    Value::Object(pairs.collect::<Map<String, Value>>())
}

/// Decodes percent-encoding (RFC 3986). Invalid sequences stay unchanged; bytes that are not UTF-8 become U+FFFD.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let encoded = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = encoded.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        // `from_str_radix` also accepts a sign.
        match value.filter(|_| encoded.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes `%` and everything except visible ASCII, so that the text can be a header's value.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_graphic() && byte != b'%' { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documented_paths() {
        let route = |url: &str| parse(url).0;
        let model = "@cf/meta/llama-3.1-8b-instruct";
        assert_eq!(route("https://workers-binding.ai/run?version=3"), Route::BindingRun);
        assert_eq!(route("https://workers-binding.ai/ai-gateway/run?version=3"), Route::BindingRun);
        assert_eq!(route("https://workers-binding.ai/ai-api/models/search?search=a"), Route::BindingModels);
        let account = "http://localhost:8788/client/v4/accounts/0a1b";
        assert_eq!(route(&format!("{account}/ai/run/{model}")), Route::RestRun(model.into()));
        assert_eq!(route(&format!("{account}/ai/run/@cf%2Fmeta%2Fllama-3.1-8b-instruct?x=1")), Route::RestRun(model.into()));
        assert_eq!(route(&format!("{account}/ai/models/search")), Route::RestModels);
        assert_eq!(route(&format!("{account}/ai/finetunes?x=1")), Route::RestFinetunes);
        assert_eq!(route(&format!("{account}/ai/v1/chat/completions")), Route::ChatCompletions);
        assert_eq!(route("/v1/chat/completions"), Route::ChatCompletions);
        assert_eq!(route(&format!("{account}/ai/v1/responses")), Route::Responses);
        assert_eq!(route("/v1/models"), Route::OpenAiModels);
        assert_eq!(route(&format!("/v1/models/{model}")), Route::OpenAiModel(model.into()));
        assert_eq!(route("/v1/embeddings"), Route::Embeddings);
        assert_eq!(route("/v1/completions"), Route::Unknown(Surface::OpenAi));
        for unknown in ["", "/", "/v11", "/client/v4/accounts/a/air/run/x", "/client/v4/accounts/ai/run/x", "http://host"] {
            assert_eq!(route(unknown), Route::Unknown(Surface::Other), "{unknown}");
        }
    }

    #[test]
    fn queries_and_encodings() {
        assert_eq!(parse("/v1/models?a=1&b=x%20y+z&c&a=2").1, json!({"a": "2", "b": "x y z", "c": ""}));
        assert_eq!(decode("%zz%4%%41%+1"), "%zz%4%A%+1");
        assert_eq!(decode("%ff"), "\u{fffd}");
        assert_eq!(encode("a b\nü%.gguf"), "a%20b%0A%C3%BC%25.gguf");
    }
}
