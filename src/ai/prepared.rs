//! Answers that were prepared, in place of those of a model: limits, stop strings and JSON mode hold for them as for a model's.

use super::Nonce;
use super::substitute::error_of;
use crate::engine::FinishReason;
use crate::error::{AiError, Result};
use crate::grammar::fits;
use crate::host::{pause, yield_now};
use crate::input::{ResponseFormat, TextGenerationRequest};
use crate::output::{AnswerText, Part, Piece, Progress, Usage, json_mode_not_met};
use crate::tokenizer::StreamDecoder;
use crate::tools::{MAX_CALLS, ToolCall};
use serde_json::Value;
use std::collections::VecDeque;

/// Whether a prepared answer is for an id that its script names, so that it need not be in the catalogue.
pub fn names_model(answer: &Value) -> bool {
    answer["named"] == Value::Bool(true)
}

/// The answers to one request, which were prepared as JSON:
/// `{"parts": [{"thought": …} | {"text": …} | {"call": {"name", "arguments"}}], "usage", "finish_reason", "delay", "error", "others"}`.
/// `others`: the parts and the `finish_reason` of the choices behind the first one; a choice that is not there is like the first one.
///
/// Each part counts as a token. `delay`: milliseconds before each of them; `error` follows the parts, in the form of
/// [`AiError::wire_body`]. Limits and stop strings of the request
/// hold as for a model.
pub struct Prepared {
    choices: Vec<Choice>,
    /// The choice whose parts come now.
    current: usize,
}

impl Prepared {
    /// An answer for each of the request's choices.
    ///
    /// # Errors
    ///
    /// The prepared error if nothing comes before it; 5024 if JSON mode wants another value than the prepared one.
    pub fn new(answer: &Value, request: &TextGenerationRequest, nonce: Nonce) -> Result<Self> {
        let choice = |index: usize| {
            let other = index.checked_sub(1).and_then(|other| answer["others"].get(other));
            let mut choice = Choice::new(other.unwrap_or(answer), request, index * MAX_CALLS, nonce)?;
            if other.is_some() {
                // The first one's tokens are those of all.
                choice.completion_tokens = Some(0);
            }
            Ok(choice)
        };
        let choices = (0..request.choices.max(1)).map(choice).collect::<Result<_>>()?;
        Ok(Self { choices, current: 0 })
    }

    /// What happens next; `None` when all answers are complete.
    ///
    /// # Errors
    ///
    /// The prepared error; 5024 if an answer in JSON mode is cut off.
    pub async fn next(&mut self) -> Result<Option<Progress>> {
        let choice = self.current;
        let Some(current) = self.choices.get_mut(choice) else { return Ok(None) };
        Ok(Some(match current.next_part().await? {
            Some(part) => Progress::Part { choice, part, logprobs: Vec::new() },
            None => {
                self.current += 1;
                Progress::Finished { choice, reason: current.finish_reason.unwrap_or_default(), logprobs: Vec::new() }
            }
        }))
    }

    /// Token counts so far: the prompt counts once.
    pub fn usage(&self) -> Usage {
        Usage::of_choices(self.choices.iter().map(|choice| choice.usage))
    }
}

struct Choice {
    parts: VecDeque<Part>,
    text: AnswerText,
    delay_ms: u32,
    /// Most parts of the answer.
    limit: usize,
    /// JSON mode: an answer that is cut off is 5024.
    json: bool,
    error: Option<AiError>,
    /// The number of completion tokens, if all parts are read.
    completion_tokens: Option<usize>,
    finishes: FinishReason,
    usage: Usage,
    finish_reason: Option<FinishReason>,
    called: usize,
    /// The number of its first call among those of all choices.
    first_call: usize,
    nonce: Nonce,
}

impl Choice {
    fn new(answer: &Value, request: &TextGenerationRequest, first_call: usize, nonce: Nonce) -> Result<Self> {
        let list = answer["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let parts: VecDeque<Part> = list.iter().filter_map(part_of).collect();
        let error = error_of(&answer["error"]);
        if let (true, Some(error)) = (parts.is_empty(), &error) {
            return Err(error.clone());
        }
        let calls = parts.iter().any(|part| matches!(part, Part::Call(_)));
        let count = |value: &Value| value.as_u64().map(|count| count as usize);
        let given = &answer["usage"];
        let json = request.response_format != ResponseFormat::Text && !calls;
        if json && error.is_none() && answer["unchecked"] != true && !is_wanted(&request.response_format, &parts) {
            return Err(json_mode_not_met());
        }
        let usage = Usage {
            prompt_tokens: count(&given["prompt_tokens"]).unwrap_or(0),
            completion_tokens: 0,
            cached_tokens: count(&given["prompt_tokens_details"]["cached_tokens"]).unwrap_or(0),
            reasoning_tokens: 0,
        };
        Ok(Self {
            parts,
            text: AnswerText::new(StreamDecoder::default(), None, request.stop.clone()),
            delay_ms: answer["delay"].as_u64().map_or(0, |delay| u32::try_from(delay).unwrap_or(u32::MAX)),
            limit: request.max_tokens.unwrap_or(usize::MAX),
            json,
            error,
            completion_tokens: count(&given["completion_tokens"]),
            finishes: if answer["finish_reason"] == "length" { FinishReason::Length } else { FinishReason::Stop },
            usage,
            finish_reason: None,
            called: 0,
            first_call,
            nonce,
        })
    }

    /// The next part; `None` when the answer is complete.
    async fn next_part(&mut self) -> Result<Option<Part>> {
        while self.finish_reason.is_none() {
            let Some(part) = self.parts.pop_front() else {
                let rest = rest_of(&mut self.text);
                if rest.is_none() {
                    if let Some(error) = self.error.take() {
                        return Err(error);
                    }
                    self.usage.completion_tokens = self.completion_tokens.unwrap_or(self.usage.completion_tokens);
                    self.finish(self.finishes)?;
                    continue;
                }
                return Ok(rest.map(Part::Text));
            };
            if self.usage.completion_tokens == self.limit {
                self.parts.clear();
                let rest = rest_of(&mut self.text);
                self.finish(FinishReason::Length)?;
                return Ok(rest.map(Part::Text));
            }
            let text = match part {
                Part::Text(text) => text,
                Part::Thought(thought) => {
                    self.wait().await;
                    self.usage.reasoning_tokens += 1;
                    return Ok(Some(Part::Thought(thought)));
                }
                Part::Call(mut call) => {
                    if let Some(rest) = rest_of(&mut self.text) {
                        self.parts.push_front(Part::Call(call));
                        return Ok(Some(Part::Text(rest)));
                    }
                    self.wait().await;
                    call.id = self.nonce.call_id(self.first_call + self.called);
                    self.called += 1;
                    return Ok(Some(Part::Call(call)));
                }
            };
            self.wait().await;
            let certain = joined(self.text.push(text.as_bytes()));
            if self.text.stopped() {
                self.finish(FinishReason::Stop)?;
            }
            if certain.is_some() {
                return Ok(certain.map(Part::Text));
            }
        }
        Ok(None)
    }

    /// Takes the time of a token.
    async fn wait(&mut self) {
        self.usage.completion_tokens += 1;
        match self.delay_ms {
            0 => yield_now().await,
            delay => pause(delay).await,
        }
    }

    fn finish(&mut self, reason: FinishReason) -> Result<()> {
        if self.json && (reason == FinishReason::Length || self.text.stopped()) {
            return Err(json_mode_not_met());
        }
        self.finish_reason = Some(if self.called > 0 { FinishReason::ToolCalls } else { reason });
        Ok(())
    }
}

/// The text of pieces of which none is a thought; `None` if there is none.
fn joined(pieces: Vec<Piece>) -> Option<String> {
    let texts: String = pieces.into_iter().map(|(Piece::Text(text) | Piece::Thought(text))| text).collect();
    (!texts.is_empty()).then_some(texts)
}

fn rest_of(text: &mut AnswerText) -> Option<String> {
    joined(text.finish())
}

fn part_of(part: &Value) -> Option<Part> {
    if let Some(text) = part["text"].as_str() {
        return (!text.is_empty()).then(|| Part::Text(text.to_owned()));
    }
    if let Some(thought) = part["thought"].as_str() {
        return (!thought.is_empty()).then(|| Part::Thought(thought.to_owned()));
    }
    let call = &part["call"];
    let name = call["name"].as_str()?.to_owned();
    Some(Part::Call(ToolCall { id: String::new(), name, arguments: call["arguments"].clone() }))
}

fn is_wanted(format: &ResponseFormat, parts: &VecDeque<Part>) -> bool {
    let text: String = parts.iter().map(|part| if let Part::Text(text) = part { text.as_str() } else { "" }).collect();
    let Ok(value) = serde_json::from_str::<Value>(&text) else { return false };
    match format {
        ResponseFormat::Text => true,
        ResponseFormat::JsonObject => value.is_object(),
        ResponseFormat::JsonSchema(schema) => fits(schema, &value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use serde_json::json;

    fn read(answer: &Value, input: Value) -> Result<(String, usize, Usage, Option<FinishReason>)> {
        let request = TextGenerationRequest::from_value(input)?;
        let mut prepared = Prepared::new(answer, &request, Nonce::default())?;
        let (mut text, mut calls, mut finish_reason) = (String::new(), 0, None);
        while let Some(progress) = pollster::block_on(prepared.next())? {
            match progress {
                Progress::Part { part: Part::Text(piece), .. } => text += &piece,
                Progress::Part { part: Part::Thought(piece), .. } => panic!("a thought: {piece}"),
                Progress::Part { part: Part::Call(call), .. } => {
                    assert_eq!(call.id.len(), 9);
                    calls += 1;
                }
                Progress::Finished { reason, .. } => finish_reason = Some(reason),
            }
        }
        Ok((text, calls, prepared.usage(), finish_reason))
    }

    fn words(words: &[&str]) -> Value {
        json!({"parts": words.iter().map(|word| json!({"text": word})).collect::<Vec<_>>(), "usage": {"prompt_tokens": 7}})
    }

    #[test]
    fn limits_and_stop_strings_hold() {
        let answer = words(&["One", " two", " three"]);
        let (text, calls, usage, reason) = read(&answer, json!({"prompt": "a"})).expect("an answer");
        assert_eq!((text.as_str(), calls, usage.prompt_tokens, usage.completion_tokens), ("One two three", 0, 7, 3));
        assert_eq!(reason, Some(FinishReason::Stop));
        let (text, _, usage, reason) = read(&answer, json!({"prompt": "a", "max_tokens": 2})).expect("an answer");
        assert_eq!((text.as_str(), usage.completion_tokens, reason), ("One two", 2, Some(FinishReason::Length)));
        let (text, _, _, reason) = read(&answer, json!({"prompt": "a", "stop": ["wo t"]})).expect("an answer");
        assert_eq!((text.as_str(), reason), ("One t", Some(FinishReason::Stop)));
        assert_eq!(read(&words(&[]), json!({"prompt": "a"})).expect("an answer").0, "");
    }

    #[test]
    fn calls_follow_the_text() {
        let answer =
            json!({"parts": [{"text": "Well"}, {"call": {"name": "f", "arguments": {}}}, {"call": {"name": "g", "arguments": {"a": 1}}}]});
        let (text, calls, usage, reason) = read(&answer, json!({"prompt": "a"})).expect("an answer");
        assert_eq!((text.as_str(), calls, usage.completion_tokens, reason), ("Well", 2, 3, Some(FinishReason::ToolCalls)));
    }

    #[test]
    fn json_mode_refuses_other_values() {
        let code =
            |answer: &Value, format: Value| read(answer, json!({"prompt": "a", "response_format": format})).err().map(|error| error.code);
        let schema =
            json!({"type": "json_schema", "json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}});
        assert_eq!(code(&words(&["{\"a\":", "1}"]), schema.clone()), None);
        assert_eq!(code(&words(&["{\"b\":", "1}"]), schema.clone()), Some(ErrorCode::JsonModeNotMet));
        assert_eq!(code(&words(&["no"]), schema), Some(ErrorCode::JsonModeNotMet));
        assert_eq!(code(&words(&["[1]"]), json!({"type": "json_object"})), Some(ErrorCode::JsonModeNotMet));
        let cut = read(&words(&["{\"a\":", "1}"]), json!({"prompt": "a", "max_tokens": 1, "response_format": {"type": "json_object"}}));
        assert_eq!(cut.expect_err("cut off").code, ErrorCode::JsonModeNotMet);
    }

    #[test]
    fn errors_come_after_the_text() {
        let error = json!({"internalCode": 3036, "httpCode": 429, "description": "no more today"});
        let at_once = read(&json!({"parts": [], "error": error}), json!({"prompt": "a"})).expect_err("an error");
        assert_eq!((at_once.to_string().as_str(), at_once.code.http_status()), ("3036: no more today", 429));
        let request = TextGenerationRequest::from_value(json!({"prompt": "a"})).expect("valid");
        let mut later =
            Prepared::new(&json!({"parts": [{"text": "Wait"}], "error": error}), &request, Nonce::default()).expect("text first");
        let first = Progress::Part { choice: 0, part: Part::Text("Wait".into()), logprobs: Vec::new() };
        assert_eq!(pollster::block_on(later.next()), Ok(Some(first)));
        assert!(pollster::block_on(later.next()).is_err());
    }
}
