//! The input of an embedding model: texts, or a query with contexts.

use super::validate::type_name;
use crate::error::{AiError, Result};
use serde_json::{Map, Value, json};

/// Most texts of one request.
pub const MAX_TEXTS: usize = 100;

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    #[default]
    Mean,
    Cls,
}

impl Pooling {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// What queries ask for, if the request does not say it: the default of the model whose input has queries.
const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";

/// What is done with the vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Vectors,
    /// As the answer to contexts without a query.
    ContextVectors,
    /// The first text is a query: how near the others are to it.
    Scores,
}

/// A validated request for embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingRequest {
    pub texts: Vec<String>,
    pub pooling: Pooling,
    /// The first texts are so many queries, with what they ask for.
    queries: usize,
    instruction: Option<String>,
    wanted: Wanted,
}

impl EmbeddingRequest {
    /// Validates a request. `null` counts as absent; unknown keys are ignored.
    ///
    /// # Errors
    ///
    /// 5006 for input that does not match the schema, 3003 for a batch (`requests`).
    pub fn from_value(input: Value) -> Result<Self> {
        super::refuse_batch(&input)?;
        let Value::Object(mut fields) = input else {
            return Err(AiError::invalid_input(format!("Type mismatch of '/', 'object' not in '{}'", type_name(&input))));
        };
        fields.retain(|_, value| !value.is_null());
        let pooling = match fields.remove("pooling") {
            None => Pooling::Mean,
            Some(Value::String(name)) if name == "mean" => Pooling::Mean,
            Some(Value::String(name)) if name == "cls" => Pooling::Cls,
            Some(Value::String(_)) => return Err(AiError::invalid_input("'/pooling' must be one of 'mean', 'cls'")),
            Some(other) => return Err(mismatch("/pooling", "string", &other)),
        };
        if let Some(contexts) = fields.remove("contexts") {
            return Self::of_contexts(&mut fields, contexts, pooling);
        }
        let instruction = match fields.remove("instruction") {
            None => None,
            Some(Value::String(instruction)) => Some(instruction),
            Some(other) => return Err(mismatch("/instruction", "string", &other)),
        };
        let mut texts = Vec::new();
        let (mut given, mut queries) = (false, 0);
        for key in ["queries", "documents", "text"] {
            let Some(value) = fields.remove(key) else { continue };
            given = true;
            read_texts(&format!("/{key}"), value, &mut texts)?;
            if key == "queries" {
                queries = texts.len();
            }
        }
        if !given {
            return Err(AiError::invalid_input("required properties at '/' are 'text'"));
        }
        check_count("/text", &texts)?;
        Ok(Self { texts, pooling, queries, instruction, wanted: Wanted::Vectors })
    }

    fn of_contexts(fields: &mut Map<String, Value>, contexts: Value, pooling: Pooling) -> Result<Self> {
        let mut texts = Vec::new();
        let wanted = match fields.remove("query") {
            None => Wanted::ContextVectors,
            Some(query) => {
                texts.push(text("/query", query)?);
                Wanted::Scores
            }
        };
        let Value::Array(contexts) = contexts else { return Err(mismatch("/contexts", "array", &contexts)) };
        for (index, mut context) in contexts.into_iter().enumerate() {
            let path = format!("/contexts/{index}");
            if !context.is_object() {
                return Err(mismatch(&path, "object", &context));
            }
            texts.push(text(&format!("{path}/text"), context["text"].take())?);
        }
        check_count("/contexts", &texts[usize::from(wanted == Wanted::Scores)..])?;
        Ok(Self { texts, pooling, queries: 0, instruction: None, wanted })
    }

    /// The texts as models read them that were trained with instructions before queries (Qwen3-Embedding).
    pub fn instructed(&self) -> Vec<String> {
        let instruction = self.instruction.as_deref().unwrap_or(INSTRUCTION);
        let text = |(index, text): (usize, &String)| match index < self.queries {
            true => format!("Instruct: {instruction}\nQuery:{text}"),
            false => text.clone(),
        };
        self.texts.iter().enumerate().map(text).collect()
    }

    /// The answer to the request. `vectors` has one of `width` numbers for each text. `pooling`: how they came from those of tokens, if it was the
    /// request's choice.
    pub fn answer(&self, vectors: &[f32], width: usize, pooling: Option<Pooling>) -> Value {
        let rows = || vectors.chunks_exact(width.max(1));
        let data = || rows().map(|row| Value::from(row.to_vec())).collect::<Vec<Value>>();
        let shape = json!([rows().len(), width]);
        let mut answer = match self.wanted {
            Wanted::Vectors => json!({"shape": shape, "data": data()}),
            Wanted::ContextVectors => json!({"response": data(), "shape": shape}),
            Wanted::Scores => {
                let Some((query, contexts)) = vectors.split_at_checked(width) else { return json!({"response": []}) };
                // The vectors have unit length.
                let product = |row: &[f32]| row.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let mut scores: Vec<(usize, f64)> = contexts.chunks_exact(width.max(1)).map(product).enumerate().collect();
                scores.sort_by(|a, b| b.1.total_cmp(&a.1));
                let response: Vec<Value> = scores.iter().map(|(id, score)| json!({"id": id, "score": score})).collect();
                return json!({"response": response});
            }
        };
        if let Some(pooling) = pooling {
            answer["pooling"] = json!(pooling.as_str());
        }
        answer
    }
}

/// Adds the texts of a field: one, or a list.
fn read_texts(path: &str, value: Value, texts: &mut Vec<String>) -> Result<()> {
    match value {
        Value::Array(list) => {
            for (index, value) in list.into_iter().enumerate() {
                texts.push(text(&format!("{path}/{index}"), value)?);
            }
            Ok(())
        }
        value => text(path, value).map(|text| texts.push(text)),
    }
}

fn text(path: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) if text.is_empty() => Err(AiError::invalid_input(format!("Length of '{path}' must be >= 1"))),
        Value::String(text) => Ok(text),
        other => Err(mismatch(path, "string", &other)),
    }
}

fn check_count(path: &str, texts: &[String]) -> Result<()> {
    match texts.len() {
        0 => Err(AiError::invalid_input(format!("Length of '{path}' must be >= 1"))),
        1..=MAX_TEXTS => Ok(()),
        count => Err(AiError::invalid_input(format!("Length of '{path}' must be <= {MAX_TEXTS}, but it has {count} texts"))),
    }
}

fn mismatch(path: &str, wanted: &str, value: &Value) -> AiError {
    AiError::invalid_input(format!("Type mismatch of '{path}', '{wanted}' not in '{}'", type_name(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: Value) -> Result<EmbeddingRequest> {
        EmbeddingRequest::from_value(input)
    }

    #[test]
    fn forms_of_the_input() {
        let one = read(json!({"text": "a", "pooling": null})).expect("valid");
        assert_eq!((one.texts.len(), one.pooling), (1, Pooling::Mean));
        assert_eq!(one.answer(&[0.5, 0.25], 2, Some(one.pooling)), json!({"shape": [1, 2], "data": [[0.5, 0.25]], "pooling": "mean"}));
        let list = read(json!({"text": ["a", "b"], "pooling": "cls"})).expect("valid");
        assert_eq!((list.texts.len(), list.pooling), (2, Pooling::Cls));
        let both = read(json!({"queries": "q", "documents": ["a", "b"], "instruction": "Find"})).expect("valid");
        assert_eq!(both.texts, ["q", "a", "b"]);
        assert_eq!(both.instructed(), ["Instruct: Find\nQuery:q", "a", "b"]);
        let contexts = json!([{"text": "far"}, {"text": "near"}]);
        let scores = read(json!({"query": "q", "contexts": contexts})).expect("valid");
        let vectors = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8];
        let scores = scores.answer(&vectors, 2, None);
        assert_eq!((&scores["response"][0]["id"], &scores["response"][1]), (&json!(1), &json!({"id": 0, "score": 0.0})));
        let vectors = read(json!({"contexts": contexts})).expect("valid").answer(&[1.0, 0.0, 0.0, 1.0], 2, None);
        assert_eq!(vectors, json!({"response": [[1.0, 0.0], [0.0, 1.0]], "shape": [2, 2]}));
    }

    #[test]
    fn invalid_inputs() {
        let refused = |input: Value| read(input).expect_err("invalid").to_string();
        assert_eq!(refused(json!("a")), "5006: Type mismatch of '/', 'object' not in 'string'");
        assert_eq!(refused(json!({"prompt": "a"})), "5006: required properties at '/' are 'text'");
        assert_eq!(refused(json!({"text": 1})), "5006: Type mismatch of '/text', 'string' not in 'integer'");
        assert_eq!(refused(json!({"text": ["a", ""]})), "5006: Length of '/text/1' must be >= 1");
        assert_eq!(refused(json!({"text": []})), "5006: Length of '/text' must be >= 1");
        assert_eq!(refused(json!({"text": vec!["a"; 101]})), "5006: Length of '/text' must be <= 100, but it has 101 texts");
        assert_eq!(refused(json!({"text": "a", "pooling": "max"})), "5006: '/pooling' must be one of 'mean', 'cls'");
        assert_eq!(refused(json!({"query": "a", "contexts": "b"})), "5006: Type mismatch of '/contexts', 'array' not in 'string'");
        assert_eq!(refused(json!({"query": "a", "contexts": [{}]})), "5006: Type mismatch of '/contexts/0/text', 'string' not in 'null'");
        assert_eq!(refused(json!({"requests": []})).get(..4), Some("3003"));
    }
}
