//! Grammars: what an answer may be, as a mask over the tokens that may come next.
//!
//! JSON mode and forced tool calls are guaranteed by the mask, not hoped for. The mask is llguidance's (Earley parser over
//! a lexer of derivatives, applied to a trie of the vocabulary); what is ours is which schemas are guaranteed
//! ([`schema`]) and how calls are written ([`calls`]).

mod calls;
mod ending;
mod schema;

use crate::error::{AiError, ErrorCode, Result};
use crate::tokenizer::Tokenizer;
use crate::tools::{CallFormat, Tool};
use ending::Ending;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use std::sync::Arc;

/// Tokens made of nothing but these characters are the inside of JSON strings; they are judged once, as a whole.
const STRING_CONTENT: &str = r#"[^"\\\x00-\x1F\x7F]+"#;

/// What an answer may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that fits a schema.
    Json(Value),
    /// One call or more.
    Calls { tools: Vec<Tool>, format: CallFormat, most: usize },
    /// The same, behind the format's marker if it has one, or JSON.
    CallsOrJson { tools: Vec<Tool>, format: CallFormat, most: usize, schema: Option<Value> },
    /// What may follow a call's marker (or stand in its place), in any format.
    CallsBegun { tools: Vec<Tool>, most: usize },
}

/// Compiles grammars for one vocabulary.
pub struct GrammarCompiler {
    factory: ParserFactory,
}

impl GrammarCompiler {
    /// Takes some tens of milliseconds and a few megabytes.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let words: Vec<Vec<u8>> = (0..tokenizer.vocabulary_size() as u32).map(|token| tokenizer.word(token)).collect();
        let ends: Vec<u32> = tokenizer.end_of_generation().iter().copied().collect();
        let Some(first) = ends.first() else {
            return Err(AiError::invalid_data("The model's vocabulary names no end-of-turn token, so a grammar could not end."));
        };
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, *first), &words).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &[STRING_CONTENT.to_owned()])
            .map_err(|error| AiError::invalid_data(format!("The model's vocabulary cannot be used with a grammar: {error}")))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { max_lexer_states: 50_000, verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory })
    }

    /// Compiles a grammar: 5006 where a schema cannot be guaranteed.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        let lark = |text: String| TopLevelGrammar::from_lark(text);
        let compiled = match grammar {
            Grammar::JsonObject => Ok(TopLevelGrammar::from_json_schema(schema::any_object())),
            Grammar::Json(schema) => prepared(schema).map(TopLevelGrammar::from_json_schema),
            Grammar::Calls { tools, format, most } => {
                self.tools(tools).map(|tools| lark(calls::calls(&tools, *format, *most, self.marker(*format), None)))
            }
            Grammar::CallsOrJson { tools, format, most, schema } => {
                let json = schema.as_ref().map_or_else(|| Ok(schema::any_object()), prepared)?;
                self.tools(tools).map(|tools| lark(calls::calls(&tools, *format, *most, self.marker(*format), Some(&json))))
            }
            Grammar::CallsBegun { tools, most } => self.tools(tools).map(|tools| lark(calls::calls_begun(&tools, *most))),
        }?;
        let what = match grammar {
            Grammar::JsonObject | Grammar::Json(_) | Grammar::CallsOrJson { .. } => "The JSON schema",
            Grammar::Calls { .. } | Grammar::CallsBegun { .. } => "A tool's parameters",
        };
        let mut matcher = Matcher::new(self.factory.create_parser(compiled));
        if let Some(reason) = matcher.get_error() {
            return Err(AiError::invalid_input(format!("{what} cannot be guaranteed: {}", first_line(&reason))));
        }
        // A schema that nothing fits is told now, not after the prompt was computed.
        if matcher.compute_mask_or_eos().is_ok_and(|mask| mask.is_zero()) {
            return Err(AiError::invalid_input(format!("{what} cannot be met: nothing fits it.")));
        }
        Ok(Constraint { matcher, environment: self.factory.tok_env().clone(), ending: None })
    }

    /// A constraint behind a text that already stands, or `None` where the text does not fit.
    pub fn behind(&self, mut constraint: Constraint, text: &[u8]) -> Option<Constraint> {
        let tokens = self.factory.tok_env().tok_trie().greedy_tokenize(text);
        let taken = constraint.matcher.try_consume_tokens(&tokens).ok()?;
        (taken == tokens.len()).then_some(constraint)
    }

    /// How a grammar writes a format's marker: as a token of its own where the vocabulary has one.
    fn marker(&self, format: CallFormat) -> Option<String> {
        let marker = format.marker()?;
        let trie = self.factory.tok_env().tok_trie();
        let special = [&[TokTrie::SPECIAL_TOKEN_MARKER], marker.as_bytes()].concat();
        Some(match trie.token_id_at_bytes(&special) {
            Some(token) => format!("<[{token}]>"),
            None => Value::String(marker.to_owned()).to_string(),
        })
    }

    fn tools(&self, tools: &[Tool]) -> Result<Vec<Tool>> {
        tools.iter().map(|tool| Ok(Tool { parameters: prepared(&tool.parameters)?, ..tool.clone() })).collect()
    }
}

fn prepared(schema: &Value) -> Result<Value> {
    schema::prepare(schema).map_err(|reason| AiError::invalid_input(format!("The JSON schema is not supported: {reason}.")))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

/// A grammar on its way through one answer.
pub struct Constraint {
    matcher: Matcher,
    environment: TokEnv,
    /// For answers that have to be complete when their tokens run out.
    ending: Option<Ending>,
}

impl Constraint {
    /// Makes the answer end in time, in whatever way the grammar allows.
    pub fn ends_in_time(mut self) -> Self {
        self.ending = Some(Ending::default());
        self
    }

    /// The token that must be taken to end in time, where only `remaining` are left.
    pub fn forced(&mut self, remaining: usize) -> Option<u32> {
        self.ending.as_mut()?.next(&self.matcher, self.environment.tok_trie(), remaining)
    }

    /// Forbids, by minus infinity, every token that cannot come next.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let mask = self.matcher.compute_mask_or_eos().map_err(failed)?;
        kernels::logits::mask(logits, mask.as_slice(), mask.len());
        Ok(())
    }

    /// Goes on behind a token that the mask allowed.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        self.matcher.consume_token(token).map_err(failed)
    }

    /// Whether the answer may end here.
    pub fn is_complete(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }

    /// Whether nothing but the end can follow.
    pub fn must_end(&self) -> bool {
        self.matcher.is_stopped()
    }
}

fn failed(error: impl std::fmt::Display) -> AiError {
    AiError::new(
        ErrorCode::JsonModeNotMet,
        format!("JSON Mode couldn't be met: the schema is too complex here ({})", first_line(&error.to_string())),
    )
}
