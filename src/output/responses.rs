//! OpenAI's Responses API: one object with a list of items, or events that build it.

use super::logprobs::logprobs;
use super::{AnswerShape, CompleteAnswer, Part, Progress, TokenLogprob, Usage};
use crate::engine::FinishReason;
use crate::tools::ToolCall;
use serde_json::{Map, Value, json};

/// Makes the value of a field that a request does not have.
type Absent = fn() -> Value;

/// Fields of the request that its response repeats, with what they are if the request has none.
const REPEATED: [(&str, Absent); 12] = [
    ("instructions", || Value::Null),
    ("max_output_tokens", || Value::Null),
    ("metadata", || json!({})),
    ("parallel_tool_calls", || true.into()),
    ("previous_response_id", || Value::Null),
    ("reasoning", || json!({"effort": null, "summary": null})),
    ("temperature", || Value::Null),
    ("text", || json!({"format": {"type": "text"}})),
    ("tool_choice", || "auto".into()),
    ("tools", || json!([])),
    ("top_p", || Value::Null),
    ("truncation", || "disabled".into()),
];

/// One response, and how far it is written.
#[derive(Debug, Clone)]
pub struct Response {
    /// What its ids end with.
    suffix: String,
    model: String,
    /// Unix time in seconds.
    created: u64,
    /// Fields of the request.
    repeated: Map<String, Value>,
    /// Items that are complete.
    items: Vec<Value>,
    /// The item that grows.
    open: Option<Open>,
    /// Number of events so far.
    events: usize,
    finish_reason: FinishReason,
}

/// An item that grows: a thought or a message.
#[derive(Debug, Clone)]
struct Open {
    is_thought: bool,
    text: String,
    logprobs: Vec<TokenLogprob>,
}

impl Response {
    /// Nothing is written yet. `suffix` makes its ids unique; `input` is the request's.
    pub fn new(suffix: &str, model: &str, created: u64, input: &Value) -> Self {
        let repeated = REPEATED.iter().map(|(key, default)| {
            let given = input.get(*key).filter(|value| !value.is_null()).cloned();
            ((*key).to_owned(), given.unwrap_or_else(default))
        });
        Self {
            suffix: suffix.replace('-', ""),
            model: model.to_owned(),
            created,
            repeated: repeated.collect(),
            items: Vec::new(),
            open: None,
            events: 0,
            finish_reason: FinishReason::Stop,
        }
    }

    /// The answer as one object.
    pub fn object(&self, whole: &CompleteAnswer, shape: AnswerShape) -> Value {
        let mut writer = self.clone();
        let Some(choice) = whole.choices.first() else { return writer.response(Some(&whole.usage)) };
        let parts = [(true, &choice.thought), (false, &choice.text)].into_iter().filter(|(_, text)| !text.is_empty());
        for (is_thought, text) in parts {
            let logprobs = if is_thought { Vec::new() } else { choice.logprobs.clone() };
            let item = writer.item(&Open { is_thought, text: text.clone(), logprobs }, "completed", shape);
            writer.items.push(item);
        }
        for call in &choice.calls {
            let item = writer.call(call, &call.arguments.to_string(), "completed");
            writer.items.push(item);
        }
        writer.finish_reason = choice.finish_reason;
        writer.response(Some(&whole.usage))
    }

    /// The events for what happened.
    pub fn events(&mut self, progress: &Progress, shape: AnswerShape) -> String {
        let mut events = String::new();
        if self.events == 0 {
            for kind in ["response.created", "response.in_progress"] {
                let response = self.response(None);
                events += &self.event(kind, json!({"response": response}));
            }
        }
        match progress {
            Progress::Part { part: Part::Thought(text), .. } => events += &self.grow(true, text, &[], shape),
            Progress::Part { part: Part::Text(text), logprobs, .. } => events += &self.grow(false, text, logprobs, shape),
            Progress::Part { part: Part::Call(call), .. } => {
                events += &self.close(shape);
                events += &self.write_call(call);
            }
            Progress::Finished { reason, .. } => {
                events += &self.close(shape);
                self.finish_reason = *reason;
            }
        }
        events
    }

    /// The last event.
    pub fn end(&mut self, usage: &Usage) -> String {
        let response = self.response(Some(usage));
        let kind = format!("response.{}", response["status"].as_str().unwrap_or_default());
        self.event(&kind, json!({"response": response}))
    }

    /// Appends text to a thought or to a message, and begins one if none is open.
    fn grow(&mut self, is_thought: bool, text: &str, tokens: &[TokenLogprob], shape: AnswerShape) -> String {
        let mut events = String::new();
        if self.open.as_ref().is_some_and(|open| open.is_thought != is_thought) {
            events += &self.close(shape);
        }
        if self.open.is_none() {
            let open = Open { is_thought, text: String::new(), logprobs: Vec::new() };
            let mut item = self.item(&open, "in_progress", shape);
            item["content"] = json!([]);
            events += &self.item_event("response.output_item.added", json!({"item": item}));
            events += &self.part_event("response.content_part.added", json!({"part": part_of(&open, shape)}));
            self.open = Some(open);
        }
        if let Some(open) = &mut self.open {
            open.text.push_str(text);
            open.logprobs.extend_from_slice(tokens);
        }
        let kind = if is_thought { "reasoning_text" } else { "output_text" };
        let mut data = json!({"delta": text});
        if !is_thought {
            data["logprobs"] = listed(tokens, shape);
        }
        events + &self.part_event(&format!("response.{kind}.delta"), data)
    }

    /// Completes the item that grows, if there is one.
    fn close(&mut self, shape: AnswerShape) -> String {
        let Some(open) = self.open.take() else { return String::new() };
        let kind = if open.is_thought { "reasoning_text" } else { "output_text" };
        let mut data = json!({"text": open.text});
        if !open.is_thought {
            data["logprobs"] = listed(&open.logprobs, shape);
        }
        let item = self.item(&open, "completed", shape);
        let events = self.part_event_of(&item, &format!("response.{kind}.done"), data)
            + &self.part_event_of(&item, "response.content_part.done", json!({"part": part_of(&open, shape)}))
            + &self.item_event("response.output_item.done", json!({"item": item}));
        self.items.push(item);
        events
    }

    fn write_call(&mut self, call: &ToolCall) -> String {
        let arguments = call.arguments.to_string();
        let begun = self.call(call, "", "in_progress");
        let item = self.call(call, &arguments, "completed");
        let id = item["id"].clone();
        let events = self.item_event("response.output_item.added", json!({"item": begun}))
            + &self.item_event("response.function_call_arguments.delta", json!({"item_id": id, "delta": arguments}))
            + &self.item_event("response.function_call_arguments.done", json!({"item_id": id, "name": call.name, "arguments": arguments}))
            + &self.item_event("response.output_item.done", json!({"item": item}));
        self.items.push(item);
        events
    }

    /// The whole response as it is now. `usage`: it is complete.
    fn response(&self, usage: Option<&Usage>) -> Value {
        let (status, details) = match (usage, self.finish_reason) {
            (None, _) => ("in_progress", Value::Null),
            (Some(_), FinishReason::Length) => ("incomplete", json!({"reason": "max_output_tokens"})),
            (Some(_), _) => ("completed", Value::Null),
        };
        let mut response = json!({
            "id": format!("resp_{}", self.suffix),
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": null,
            "incomplete_details": details,
            "model": self.model,
            "output": self.items,
            "usage": usage.map(|usage| json!({
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            })),
        });
        if usage.is_some() {
            let texts = self.items.iter().filter(|item| item["type"] == "message").filter_map(|item| item["content"][0]["text"].as_str());
            response["output_text"] = texts.collect::<String>().into();
        }
        if let Value::Object(fields) = &mut response {
            fields.extend(self.repeated.clone());
        }
        response
    }

    fn item(&self, open: &Open, status: &str, shape: AnswerShape) -> Value {
        let content = json!([part_of(open, shape)]);
        let number = self.items.len();
        if open.is_thought {
            return json!({"id": format!("rs_{number}_{}", self.suffix), "type": "reasoning", "summary": [], "content": content, "status": status});
        }
        json!({"id": format!("msg_{number}_{}", self.suffix), "type": "message", "role": "assistant", "content": content, "status": status})
    }

    fn call(&self, call: &ToolCall, arguments: &str, status: &str) -> Value {
        json!({
            "id": format!("fc_{}_{}", self.items.len(), self.suffix),
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": arguments,
            "status": status,
        })
    }

    /// An event about the content of the item that grows.
    fn part_event(&mut self, kind: &str, data: Value) -> String {
        let is_thought = kind.contains("reasoning") || data["part"]["type"] == "reasoning_text";
        let item = self.item(&Open { is_thought, text: String::new(), logprobs: Vec::new() }, "", AnswerShape::default());
        self.part_event_of(&item, kind, data)
    }

    fn part_event_of(&mut self, item: &Value, kind: &str, mut data: Value) -> String {
        data["item_id"] = item["id"].clone();
        data["content_index"] = 0.into();
        self.item_event(kind, data)
    }

    /// An event about the item that comes after the complete ones.
    fn item_event(&mut self, kind: &str, mut data: Value) -> String {
        data["output_index"] = self.items.len().into();
        self.event(kind, data)
    }

    fn event(&mut self, kind: &str, mut data: Value) -> String {
        data["type"] = kind.into();
        data["sequence_number"] = self.events.into();
        self.events += 1;
        format!("event: {kind}\ndata: {data}\n\n")
    }
}

fn part_of(open: &Open, shape: AnswerShape) -> Value {
    match open.is_thought {
        true => json!({"type": "reasoning_text", "text": open.text}),
        false => json!({"type": "output_text", "text": open.text, "annotations": [], "logprobs": listed(&open.logprobs, shape)}),
    }
}

/// Log probabilities as a list, which is empty if they were not asked for.
fn listed(tokens: &[TokenLogprob], shape: AnswerShape) -> Value {
    logprobs(tokens, shape.logprobs)["content"].as_array().cloned().unwrap_or_default().into()
}
