//! The crate's error type, and the table of error codes with their HTTP status and meaning.
//!
//! The codes are those of Cloudflare's Workers AI documentation. Error texts are written for a person who reads them in a
//! terminal: they say what happened, and what to do about it.

use std::fmt;

/// The documented internal codes of Workers AI, each with one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 3003: the request could not be read at all.
    BadInput,
    /// 3006: the request is larger than the limit.
    RequestTooLarge,
    /// 3007: the request took too long.
    TimedOut,
    /// 3008: the request was interrupted: an abort, or a lost connection.
    Aborted,
    /// 3040: the queue is full or memory has run out.
    OutOfCapacity,
    /// 3042: there is nothing at that path.
    NotFound,
    /// 5004: data (a model file, a template) that cannot be used.
    InvalidData,
    /// 5005: a LoRA adapter that is unknown, or cannot be used with the model.
    LoraUnsupported,
    /// 5006: the input does not fit the published schema.
    InvalidInput,
    /// 5007: no such model or task.
    NoSuchModel,
    /// 5021: prompt and answer do not fit into the context window.
    ContextWindowExceeded,
    /// 5024: JSON mode produced no object that fits the schema.
    JsonModeNotMet,
    /// This instance has not the memory that the model needs, another one of the package has. No client ever sees it.
    NeedsMoreMemory,
    /// Any other code, of the real service or of a prepared answer; nothing here causes it.
    Other { internal: u16, http: u16 },
}

impl ErrorCode {
    /// Every code that has a meaning here, for tables in tests and documentation.
    pub const ALL: [ErrorCode; 12] = [
        Self::BadInput,
        Self::RequestTooLarge,
        Self::TimedOut,
        Self::Aborted,
        Self::OutOfCapacity,
        Self::NotFound,
        Self::InvalidData,
        Self::LoraUnsupported,
        Self::InvalidInput,
        Self::NoSuchModel,
        Self::ContextWindowExceeded,
        Self::JsonModeNotMet,
    ];

    /// `(internal code, HTTP status)`.
    pub const fn numbers(self) -> (u16, u16) {
        match self {
            Self::BadInput => (3003, 400),
            Self::RequestTooLarge => (3006, 413),
            Self::TimedOut => (3007, 408),
            Self::Aborted => (3008, 408),
            Self::OutOfCapacity => (3040, 429),
            Self::NotFound => (3042, 404),
            Self::InvalidData => (5004, 400),
            Self::LoraUnsupported => (5005, 405),
            Self::InvalidInput => (5006, 400),
            Self::NoSuchModel => (5007, 400),
            Self::ContextWindowExceeded => (5021, 413),
            Self::JsonModeNotMet => (5024, 400),
            Self::NeedsMoreMemory => (0, 0),
            Self::Other { internal, http } => (internal, http),
        }
    }

    /// The code with these numbers.
    pub fn from_numbers(internal: u16, http: u16) -> Self {
        Self::ALL.into_iter().find(|code| code.numbers() == (internal, http)).unwrap_or(Self::Other { internal, http })
    }

    /// The internal code, for instance 5007.
    pub const fn internal(self) -> u16 {
        self.numbers().0
    }

    /// The HTTP status, for instance 400.
    pub const fn http_status(self) -> u16 {
        self.numbers().1
    }
}

/// A failed request: its error code, and a text that says what happened and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AiError {
    pub code: ErrorCode,
    pub text: String,
}

/// The `Result` of the crate's fallible functions.
pub type Result<T> = std::result::Result<T, AiError>;

impl AiError {
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// 5007, in the words of the live service.
    pub fn no_such_model(model: &str) -> Self {
        Self::new(ErrorCode::NoSuchModel, format!("No such model {model} or task"))
    }

    /// 5004: data that cannot be used.
    pub fn invalid_data(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidData, text)
    }

    /// 5006: input that does not fit the schema.
    pub fn invalid_input(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidInput, text)
    }

    /// 5021. `needed`: tokens of prompt and answer together; `window`: tokens that the context window holds.
    pub fn context_window_exceeded(needed: usize, window: usize) -> Self {
        Self::new(
            ErrorCode::ContextWindowExceeded,
            format!(
                "The estimated number of input and maximum output tokens ({needed}) exceeded this model context window limit ({window})."
            ),
        )
    }

    /// 3040: an allocation of `bytes` failed; `what` names its purpose.
    pub fn out_of_memory(what: &str, bytes: u64) -> Self {
        Self::new(
            ErrorCode::OutOfCapacity,
            format!(
                "Out of memory: {what} needs {:.1} MB more than is available. Use a smaller model or a shorter prompt.",
                bytes as f64 / 1e6
            ),
        )
    }

    /// The JSON body of an error, as the binding sends it.
    pub fn wire_body(&self) -> serde_json::Value {
        let (internal, http) = self.code.numbers();
        serde_json::json!({
            "name": "AiError",
            "internalCode": internal,
            "httpCode": http,
            "message": format!("AiError: {}", self.text),
            "description": self.text,
        })
    }
}

impl From<kernels::Error> for AiError {
    fn from(error: kernels::Error) -> Self {
        match error {
            kernels::Error::OutOfMemory { purpose, bytes } => Self::out_of_memory(purpose, bytes),
            kernels::Error::InvalidData(text) => Self::invalid_data(text),
        }
    }
}

impl fmt::Display for AiError {
    /// `CODE: text`, the message that the binding's clients see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.internal(), self.text)
    }
}

impl std::error::Error for AiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_print_as_the_binding_does() {
        let mut codes: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.internal()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
        let error = AiError::no_such_model("@cf/x/y");
        assert_eq!(error.to_string(), "5007: No such model @cf/x/y or task");
        assert_eq!(error.wire_body()["message"], "AiError: No such model @cf/x/y or task");
        assert_eq!(error.wire_body()["httpCode"], 400);
    }
}
