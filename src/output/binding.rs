//! The binding's objects and events: `{"response", "tool_calls", "usage", "finish_reason"}`.

use super::{AnswerShape, CompleteAnswer, Part, Usage, event, json_mode_not_met};
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
    let response = if !whole.calls.is_empty() {
        if whole.text.is_empty() { Value::Null } else { Value::String(whole.text.clone()) }
    } else if shape.json {
        serde_json::from_str(&whole.text).map_err(|_| json_mode_not_met())?
    } else {
        Value::String(whole.text.clone())
    };
    let mut object = Map::new();
    object.insert("response".into(), response);
    if shape.tools_offered {
        object.insert("tool_calls".into(), whole.calls.iter().map(ToolCall::flat).collect());
    }
    object.insert("usage".into(), json!(whole.usage));
    object.insert("finish_reason".into(), whole.finish_reason.as_str().into());
    Ok(Value::Object(object))
}

/// The event for a part: a piece of text, or a complete call. `index` is the number of the call within the answer, from 0.
pub fn part(part: &Part, index: usize) -> String {
    match part {
        Part::Text(text) => event(&json!({"response": text})),
        Part::Call(call) => {
            let mut call = call.nested();
            call["index"] = index.into();
            event(&json!({"response": "", "tool_calls": [call]}))
        }
    }
}

/// The last event before `[DONE]`.
pub fn end(usage: &Usage, finish_reason: FinishReason) -> String {
    event(&json!({"response": "", "usage": usage, "finish_reason": finish_reason.as_str()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_one_line_of_json_each() {
        assert_eq!(part(&Part::Text("a\n\"b\" 中".into()), 0), "data: {\"response\":\"a\\n\\\"b\\\" 中\"}\n\n");
        let usage = Usage { prompt_tokens: 3, completion_tokens: 2, cached_tokens: 1 };
        assert_eq!(
            end(&usage, FinishReason::Length),
            "data: {\"response\":\"\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":1}},\"finish_reason\":\"length\"}\n\n"
        );
    }

    #[test]
    fn objects_with_text_json_and_calls() {
        let whole =
            |text: &str, calls| CompleteAnswer { text: text.into(), calls, usage: Usage::default(), finish_reason: FinishReason::Stop };
        let shape = |tools_offered, json| AnswerShape { stream: false, tools_offered, json };
        let plain = object(&whole("a", vec![]), shape(false, false)).expect("an object");
        assert_eq!((&plain["response"], plain.get("tool_calls")), (&json!("a"), None));
        assert_eq!(object(&whole("a", vec![]), shape(true, false)).expect("an object")["tool_calls"], json!([]));
        assert_eq!(object(&whole("{\"a\": 1}", vec![]), shape(false, true)).expect("an object")["response"], json!({"a": 1}));
        assert!(object(&whole("{\"a\": ", vec![]), shape(false, true)).is_err());
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: json!({}) };
        let turn = object(&whole("", vec![call]), shape(true, false)).expect("an object");
        assert_eq!((&turn["response"], &turn["tool_calls"][0]["name"]), (&Value::Null, &json!("f")));
    }
}
