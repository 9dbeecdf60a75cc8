//! CORS (as in the Fetch standard): which origins may read responses.

use super::{Body, Request, Response};

/// The origins whose pages may read responses. Default: no other origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cors {
    /// No headers: browsers do not let a page of another origin read a response.
    #[default]
    Off,
    /// Every origin.
    Any,
    /// These origins, for instance `https://example.com`.
    Origins(Vec<String>),
}

impl Cors {
    /// The response to a preflight request from an allowed origin; `None` for any other request.
    pub fn preflight(&self, request: &Request) -> Option<Response> {
        let asks = request.method == "OPTIONS" && request.header("access-control-request-method").is_some();
        if !asks || self.allowed(request).is_none() {
            return None;
        }
        let wanted = request.header("access-control-request-headers").unwrap_or("content-type");
        let response = Response { status: 204, headers: Vec::new(), body: Body::Whole(Vec::new()), needs_more_memory: false };
        let response = response.with("access-control-allow-methods", "GET, POST").with("access-control-allow-headers", wanted);
        Some(response.with("access-control-max-age", "600"))
    }

    /// Adds the headers that allow the request's origin, if it is allowed, to read the response.
    pub fn allow(&self, request: &Request, response: &mut Response) {
        let mut add = |name: &str, value: &str| response.headers.push((name.to_owned(), value.to_owned()));
        if matches!(self, Self::Origins(_)) {
            add("vary", "origin");
        }
        if let Some(origin) = self.allowed(request) {
            add("access-control-allow-origin", origin);
            add("access-control-expose-headers", "cf-ai-req-id, workers-ai-local-model");
        }
    }

    /// The value of `access-control-allow-origin`, if the request has an origin that is allowed.
    fn allowed<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let origin = request.header("origin")?;
        match self {
            Self::Off => None,
            Self::Any => Some("*"),
            Self::Origins(origins) => origins.iter().any(|known| known == origin).then_some(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Request { method: method.into(), headers, ..Request::default() }
    }

    fn allowed_origin(cors: &Cors, origin: &str) -> Option<String> {
        let mut response = Response { status: 200, headers: Vec::new(), body: Body::Whole(Vec::new()), needs_more_memory: false };
        cors.allow(&request("GET", &[("origin", origin)]), &mut response);
        response.headers.into_iter().find(|(name, _)| name == "access-control-allow-origin").map(|(_, value)| value)
    }

    #[test]
    fn only_configured_origins_are_allowed() {
        let some = Cors::Origins(vec!["https://a.example".into()]);
        assert_eq!(allowed_origin(&Cors::Off, "https://a.example"), None);
        assert_eq!(allowed_origin(&Cors::Any, "https://a.example").as_deref(), Some("*"));
        assert_eq!(allowed_origin(&some, "https://a.example").as_deref(), Some("https://a.example"));
        assert_eq!(allowed_origin(&some, "https://b.example"), None);
        let preflight = request("OPTIONS", &[("origin", "https://a.example"), ("access-control-request-method", "POST")]);
        assert!(Cors::Off.preflight(&preflight).is_none());
        assert_eq!(some.preflight(&preflight).map(|response| response.status), Some(204));
    }
}
