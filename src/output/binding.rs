//! The binding's own objects and events: `{"response", "tool_calls", "usage", "finish_reason"}`. They have room for one choice.

use super::{AnswerShape, CompleteAnswer, Part, Progress, Usage, add_thought, event, json_mode_not_met};
use crate::engine::FinishReason;
use crate::error::Result;
use crate::tools::ToolCall;
use serde_json::{Map, Value, json};

/// The answer as one object. `response` is the text, in JSON mode the parsed value, and if the answer calls tools the text before the calls or
/// `null`.
///
/// # Errors
///
/// 5024 if the text is not JSON in JSON mode.
pub fn object(whole: &CompleteAnswer, shape: AnswerShape) -> Result<Value> {
    let Some(choice) = whole.choices.first() else { return Err(json_mode_not_met()) };
    let response = if !choice.calls.is_empty() {
        if choice.text.is_empty() { Value::Null } else { Value::String(choice.text.clone()) }
    } else if shape.json {
        serde_json::from_str(&choice.text).map_err(|_| json_mode_not_met())?
    } else {
        Value::String(choice.text.clone())
    };
    let mut object = Map::new();
    object.insert("response".into(), response);
    if shape.tools_offered {
        let call = |call: &ToolCall| {
            let mut flat = call.flat();
            if shape.object_arguments {
                flat["function"]["arguments"] = call.arguments.clone();
            }
            flat
        };
        object.insert("tool_calls".into(), choice.calls.iter().map(call).collect());
    }
    object.insert("usage".into(), json!(whole.usage));
    object.insert("finish_reason".into(), choice.finish_reason.as_str().into());
    let mut object = Value::Object(object);
    add_thought(&mut object, &choice.thought);
    Ok(object)
}

/// The events of one answer.
#[derive(Debug, Clone, Default)]
pub struct Events {
    /// Number of calls so far.
    calls: usize,
    finish_reason: FinishReason,
}

impl Events {
    pub fn events(&mut self, progress: &Progress) -> String {
        match progress {
            Progress::Part { part: Part::Text(text), .. } => event(&json!({"response": text})),
            Progress::Part { part: Part::Thought(thought), .. } => {
                let mut data = json!({"response": ""});
                add_thought(&mut data, thought);
                event(&data)
            }
            Progress::Part { part: Part::Call(call), .. } => {
                let mut call = call.nested();
                call["index"] = self.calls.into();
                self.calls += 1;
                event(&json!({"response": "", "tool_calls": [call]}))
            }
            Progress::Finished { reason, .. } => {
                self.finish_reason = *reason;
                String::new()
            }
        }
    }

    /// The last event before `[DONE]`.
    pub fn end(&self, usage: &Usage) -> String {
        event(&json!({"response": "", "usage": usage, "finish_reason": self.finish_reason.as_str()}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Choice;

    #[test]
    fn events_are_one_line_of_json_each() {
        let mut events = Events::default();
        let part = |part| Progress::Part { choice: 0, part, logprobs: Vec::new() };
        assert_eq!(
            events.events(&part(Part::Thought("Hm".into()))),
            "data: {\"response\":\"\",\"reasoning_content\":\"Hm\",\"reasoning\":\"Hm\"}\n\n"
        );
        assert_eq!(events.events(&part(Part::Text("a\n\"b\" 中".into()))), "data: {\"response\":\"a\\n\\\"b\\\" 中\"}\n\n");
        events.events(&Progress::Finished { choice: 0, reason: FinishReason::Length, logprobs: Vec::new() });
        let usage = Usage { prompt_tokens: 3, completion_tokens: 2, cached_tokens: 1, reasoning_tokens: 0 };
        assert_eq!(
            events.end(&usage),
            "data: {\"response\":\"\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":1}},\"finish_reason\":\"length\"}\n\n"
        );
    }

    #[test]
    fn objects_with_text_json_and_calls() {
        let whole = |text: &str, calls| CompleteAnswer {
            choices: vec![Choice { text: text.into(), calls, ..Choice::default() }],
            usage: Usage::default(),
        };
        let shape = |tools_offered, json| AnswerShape { tools_offered, json, ..AnswerShape::default() };
        let plain = object(&whole("a", vec![]), shape(false, false)).expect("an object");
        assert_eq!((&plain["response"], plain.get("tool_calls")), (&json!("a"), None));
        assert_eq!(object(&whole("a", vec![]), shape(true, false)).expect("an object")["tool_calls"], json!([]));
        assert_eq!(object(&whole("{\"a\": 1}", vec![]), shape(false, true)).expect("an object")["response"], json!({"a": 1}));
        assert!(object(&whole("{\"a\": ", vec![]), shape(false, true)).is_err());
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: json!({}) };
        let turn = object(&whole("", vec![call]), shape(true, false)).expect("an object");
        assert_eq!((&turn["response"], &turn["tool_calls"][0]["name"]), (&Value::Null, &json!("f")));
        assert_eq!(turn["tool_calls"][0]["function"]["arguments"], json!("{}"));
        let shape = AnswerShape { object_arguments: true, ..shape(true, false) };
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: json!({"a": 1}) };
        assert_eq!(object(&whole("", vec![call]), shape).expect("an object")["tool_calls"][0]["function"]["arguments"], json!({"a": 1}));
    }
}
