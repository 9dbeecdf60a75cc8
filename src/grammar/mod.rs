//! Grammars: constrain an answer by a mask over the tokens that may come next.
//!
//! The mask guarantees that JSON mode and forced tool calls match their schema. llguidance computes it (an Earley parser over a
//! derivative-based lexer, applied to a trie of the vocabulary). Our part is the selection of schemas that are guaranteed ([`schema`])
//! and the format of calls ([`calls`]).

mod calls;
mod closing;
mod fits;
mod pattern;
mod schema;

pub use fits::fits;

use crate::error::{AiError, ErrorCode, Result};
use crate::tokenizer::Tokenizer;
use crate::tools::{CallFormat, Tool};
use closing::ClosingPath;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use schema::Guarantee;
use serde_json::Value;
use std::sync::Arc;

/// Tokens that consist only of these characters are the content of JSON strings. llguidance computes their mask once, as a group.
const STRING_CONTENT: &str = r#"[^"\\\x00-\x1F\x7F]+"#;

/// The set of answers that are allowed.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that matches this schema.
    Json(Value),
    /// 1 to `max_calls` calls, preceded by the format's marker if it has one.
    Calls { tools: Vec<Tool>, format: CallFormat, max_calls: usize },
    /// Like `Calls`, or JSON that matches the schema (without a schema: any JSON object). The model chooses, so the arguments of calls follow
    /// their schema as far as a mask can enforce it.
    CallsOrJson { tools: Vec<Tool>, format: CallFormat, max_calls: usize, schema: Option<Value> },
    /// The text after a call's marker, or calls without a marker: 1 to `max_calls` calls in any format. As with `CallsOrJson`, arguments follow
    /// their schema as far as possible.
    CallsBegun { tools: Vec<Tool>, max_calls: usize },
}

/// How closely the calls that a model need not make follow their schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// As far as a mask can enforce them.
    Schemas,
    /// The same, except for those that llguidance rejects: any object.
    ValidSchemas,
    /// All accept any object, because together they are too large.
    AnyObjects,
}

/// Compiles grammars for one vocabulary.
pub struct GrammarCompiler {
    factory: ParserFactory,
}

impl GrammarCompiler {
    /// Builds the compiler. This takes tens of milliseconds and a few megabytes.
    ///
    /// # Errors
    ///
    /// 5004 if the vocabulary has no end-of-turn token or cannot be used with a grammar.
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

    /// Compiles a grammar.
    ///
    /// # Errors
    ///
    /// 5006 if a schema is not supported, cannot be guaranteed or matches nothing.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        self.compile_with(grammar, Effort::Schemas)
    }

    fn compile_with(&self, grammar: &Grammar, effort: Effort) -> Result<Constraint> {
        let lark = |text: String| TopLevelGrammar::from_lark(text);
        let compiled = match grammar {
            Grammar::JsonObject => Ok(TopLevelGrammar::from_json_schema(schema::any_object())),
            Grammar::Json(schema) => prepared(schema).map(TopLevelGrammar::from_json_schema),
            Grammar::Calls { tools, format, max_calls } => self
                .prepare_tools(tools, Guarantee::Complete, effort)
                .map(|tools| lark(calls::calls(&tools, *format, *max_calls, self.marker(*format), None))),
            Grammar::CallsOrJson { tools, format, max_calls, schema } => {
                let json = schema.as_ref().map_or_else(|| Ok(schema::any_object()), prepared)?;
                self.prepare_tools(tools, Guarantee::BestEffort, effort)
                    .map(|tools| lark(calls::calls(&tools, *format, *max_calls, self.marker(*format), Some(&json))))
            }
            Grammar::CallsBegun { tools, max_calls } => {
                self.prepare_tools(tools, Guarantee::BestEffort, effort).map(|tools| lark(calls::calls_begun(&tools, *max_calls)))
            }
        }?;
        let subject = match grammar {
            Grammar::JsonObject | Grammar::Json(_) | Grammar::CallsOrJson { .. } => "The JSON schema",
            Grammar::Calls { .. } | Grammar::CallsBegun { .. } => "A tool's parameters",
        };
        let parser = self.factory.create_parser(compiled);
        let closing = match (grammar, &parser) {
            (Grammar::Calls { format, .. }, Ok(parser)) => {
                let mut parser = parser.deep_clone();
                parser.start_without_prompt();
                Some(ClosingPath::new(parser, *format))
            }
            _ => None,
        };
        let optional = matches!(grammar, Grammar::CallsBegun { .. } | Grammar::CallsOrJson { .. });
        let mut matcher = Matcher::new(parser);
        if let Some(reason) = matcher.get_error() {
            match effort {
                Effort::Schemas if optional && reason.contains("too big") => return self.compile_with(grammar, Effort::AnyObjects),
                Effort::Schemas if optional => return self.compile_with(grammar, Effort::ValidSchemas),
                Effort::ValidSchemas => return self.compile_with(grammar, Effort::AnyObjects),
                _ => {}
            }
            return Err(AiError::invalid_input(format!("{subject} cannot be guaranteed: {}", first_line(&reason))));
        }
        // Reports a schema that nothing matches now, before the prompt is computed.
        if matcher.compute_mask_or_eos().is_ok_and(|mask| mask.is_zero()) {
            return Err(AiError::invalid_input(format!("{subject} cannot be met: no value matches it.")));
        }
        Ok(Constraint { matcher, closing })
    }

    /// The constraint after `text`, which has already been generated. `None` if the text does not match the grammar.
    pub fn after_text(&self, constraint: &Constraint, text: &[u8]) -> Option<Constraint> {
        let tokens = self.factory.tok_env().tok_trie().greedy_tokenize(text);
        let mut matcher = constraint.matcher.deep_clone();
        let taken = matcher.try_consume_tokens(&tokens).ok()?;
        (taken == tokens.len()).then_some(Constraint { matcher, closing: None })
    }

    /// The format's marker in Lark syntax: as a special token if the vocabulary has one, otherwise as text.
    fn marker(&self, format: CallFormat) -> Option<String> {
        let marker = format.marker()?;
        let trie = self.factory.tok_env().tok_trie();
        let special = [&[TokTrie::SPECIAL_TOKEN_MARKER], marker.as_bytes()].concat();
        Some(match trie.token_id_at_bytes(&special) {
            Some(token) => format!("<[{token}]>"),
            None => Value::String(marker.to_owned()).to_string(),
        })
    }

    /// Prepares the schemas of the tools' parameters. With [`Guarantee::BestEffort`], parameters that cannot be prepared become any object.
    fn prepare_tools(&self, tools: &[Tool], guarantee: Guarantee, effort: Effort) -> Result<Vec<Tool>> {
        let prepare = |tool: &Tool| {
            let schema = schema::arguments(&tool.parameters).and_then(|schema| schema::prepare(&schema, guarantee));
            match (schema, guarantee) {
                (Ok(schema), Guarantee::Complete) => Ok(schema),
                (Ok(schema), Guarantee::BestEffort) if effort == Effort::Schemas => Ok(schema),
                (Ok(schema), Guarantee::BestEffort) if effort == Effort::ValidSchemas && self.compiles(&schema) => Ok(schema),
                (_, Guarantee::BestEffort) => Ok(schema::any_object()),
                (Err(reason), Guarantee::Complete) => {
                    Err(AiError::invalid_input(format!("The parameters of the tool '{}' are not supported: {reason}.", tool.name)))
                }
            }
        };
        tools.iter().map(|tool| Ok(Tool { parameters: prepare(tool)?, ..tool.clone() })).collect()
    }

    /// Whether llguidance accepts a prepared schema.
    fn compiles(&self, schema: &Value) -> bool {
        self.factory.create_parser(TopLevelGrammar::from_json_schema(schema.clone())).is_ok()
    }
}

fn prepared(schema: &Value) -> Result<Value> {
    schema::prepare(schema, Guarantee::Complete)
        .map_err(|reason| AiError::invalid_input(format!("The JSON schema is not supported: {reason}.")))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

/// The state of a grammar within one answer.
pub struct Constraint {
    matcher: Matcher,
    /// Set for answers that must be complete when their tokens run out: forced calls.
    closing: Option<ClosingPath>,
}

impl Constraint {
    /// The token that must come next so that the answer is complete within the `remaining` tokens; `None` if the model may choose.
    /// Always `None` for other grammars than [`Grammar::Calls`].
    pub fn closing_token(&mut self, remaining: usize) -> Option<u32> {
        self.closing.as_mut()?.next(remaining)
    }

    /// The token that must come instead of the model's `token` so that the answer is complete within the `remaining` tokens, `token` included;
    /// `None` if it may come.
    pub fn instead_of(&mut self, token: u32, remaining: usize) -> Option<u32> {
        self.closing.as_mut()?.instead_of(token, remaining)
    }

    /// Sets the logit of every token that must not come next to −∞. `logits` has one value per token of the vocabulary.
    ///
    /// # Errors
    ///
    /// 5024 if the grammar is too complex for llguidance.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let mask = self.matcher.compute_mask_or_eos().map_err(failed)?;
        kernels::logits::mask(logits, mask.as_slice(), mask.len());
        Ok(())
    }

    /// Advances past `token`, which the mask must have allowed.
    ///
    /// # Errors
    ///
    /// 5024 if the grammar does not accept the token.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        if let Some(closing) = &mut self.closing {
            closing.accept(token);
        }
        self.matcher.consume_token(token).map_err(failed)
    }

    /// Whether the answer may end here.
    pub fn is_complete(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }

    /// Whether the answer must end here.
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
