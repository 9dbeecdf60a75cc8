//! Grammars for tool calls, in llguidance's Lark-like syntax.

use crate::tools::{CallFormat, Tool};
use serde_json::Value;

/// White space between the parts of a call. It is limited to four characters, so that a model cannot get stuck in white space.
const SPACE: &str = "space: WHITE?\nWHITE: /[ \\n\\t]{1,4}/\n";

/// A grammar for 1 to `max_calls` calls in `format`, or, if the schema `json` is given, for such calls or one JSON value of that schema.
/// `marker` is the format's marker in Lark syntax. The schemas must have passed [`prepare`](super::schema::prepare).
pub fn calls(tools: &[Tool], format: CallFormat, max_calls: usize, marker: Option<String>, json: Option<&Value>) -> String {
    let marker = marker.unwrap_or_default();
    let answer = match format {
        CallFormat::Hermes => {
            let more = repeated("space tagged", max_calls);
            format!("tagged{more}\ntagged: {marker} space call space \"</tool_call>\"")
        }
        CallFormat::Mistral => format!("{marker} space \"[\" call{} \"]\"", repeated("\",\" space call", max_calls)),
        CallFormat::Llama3 | CallFormat::Bare => format!("call{}\nSEPARATOR: /[,;]?[ \\n]/", repeated("SEPARATOR call", max_calls)),
    };
    let start = match json {
        Some(schema) => format!("start: answer | json\njson: %json {schema}\n"),
        None => "start: answer\n".into(),
    };
    format!("{start}answer: {answer}\n{}{SPACE}", call(tools, &format!("\"\\\"{}\\\"\"", format.arguments_key()), false))
}

/// A grammar for the text after a call's marker, or for calls without a marker: 1 to `max_calls` calls in any format.
///
/// A tool without required parameters may be called without arguments.
pub fn calls_begun(tools: &[Tool], max_calls: usize) -> String {
    let call = call(tools, "(\"\\\"arguments\\\"\" | \"\\\"parameters\\\"\")", true);
    let plain = repeated("SEPARATOR call", max_calls);
    let listed = repeated("\",\" space call", max_calls);
    let tagged = repeated("space \"<tool_call>\" space call space \"</tool_call>\"", max_calls);
    format!(
        "start: space (call{plain} | \"[\" space call{listed} space \"]\" | call space \"</tool_call>\"{tagged})\nSEPARATOR: /[,;]?[ \\n]/\n{call}{SPACE}"
    )
}

/// Up to `max_calls - 1` repetitions of `rule`.
fn repeated(rule: &str, max_calls: usize) -> String {
    if max_calls > 1 { format!(" ({rule}){{0,{}}}", max_calls - 1) } else { String::new() }
}

/// The rules for one call of any of the tools. `key` is the JSON key of the arguments, in Lark syntax. `may_omit`: arguments may be missing
/// if none is required.
fn call(tools: &[Tool], key: &str, may_omit: bool) -> String {
    let alternatives: Vec<String> = (0..tools.len()).map(|index| format!("call_{index}")).collect();
    let kind = "(\"\\\"type\\\"\" space \":\" space \"\\\"function\\\"\" space \",\" space)?";
    let mut rules = format!("call: {}\n", alternatives.join(" | "));
    for (index, tool) in tools.iter().enumerate() {
        // The name as a JSON string, quoted once more as a string literal of the grammar.
        let name = Value::String(Value::String(tool.name.clone()).to_string());
        let requires = |key: &str| tool.parameters.get(key).is_some_and(|value| value.as_array().is_none_or(|names| !names.is_empty()));
        let optional = may_omit && !["required", "$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| requires(key));
        let (open, close) = if optional { ("(", ")?") } else { ("", "") };
        // Tools with the same parameters share a rule, which is most of the size of a grammar.
        let shared = tools.iter().position(|other| other.parameters == tool.parameters).unwrap_or(index);
        rules += &format!(
            "call_{index}: \"{{\" space {kind} \"\\\"name\\\"\" space \":\" space {name} space {open}\",\" space {key} space \":\" space arguments_{shared} space{close} \"}}\"\n"
        );
        if shared == index {
            rules += &format!("arguments_{index}: %json {}\n", tool.parameters);
        }
    }
    rules
}
