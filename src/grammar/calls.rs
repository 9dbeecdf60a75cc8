//! Tool calls as grammars, in llguidance's Lark-like syntax.

use crate::tools::{CallFormat, Tool};
use serde_json::Value;

/// White space between the parts of a call; little of it, so that a model does not get lost there.
const SPACE: &str = "space: WHITE?\nWHITE: /[ \\n\\t]{1,4}/\n";

/// One to `most` calls in a format, whose marker is `marker` in this syntax; or, where `json` is given, that instead.
/// The tools' schemas are prepared.
pub fn calls(tools: &[Tool], format: CallFormat, most: usize, marker: Option<String>, json: Option<&Value>) -> String {
    let marker = marker.unwrap_or_default();
    let answer = match format {
        CallFormat::Hermes => {
            let further = further("space tagged", most);
            format!("tagged{further}\ntagged: {marker} space call space \"</tool_call>\"")
        }
        CallFormat::Mistral => format!("{marker} space \"[\" call{} \"]\"", further("\",\" space call", most)),
        CallFormat::Llama3 | CallFormat::Bare => format!("call{}\nSEPARATOR: /[,;]?[ \\n]/", further("SEPARATOR call", most)),
    };
    let start = match json {
        Some(schema) => format!("start: answer | json\njson: %json {schema}\n"),
        None => "start: answer\n".into(),
    };
    format!("{start}answer: {answer}\n{}{SPACE}", call(tools, &format!("\"\\\"{}\\\"\"", format.arguments_key())))
}

/// What follows a marker, or a call without one, in whatever format.
pub fn calls_begun(tools: &[Tool], most: usize) -> String {
    let call = call(tools, "(\"\\\"arguments\\\"\" | \"\\\"parameters\\\"\")");
    let plain = further("SEPARATOR call", most);
    let listed = further("\",\" space call", most);
    let tagged = further("space \"<tool_call>\" space call space \"</tool_call>\"", most);
    format!(
        "start: space (call{plain} | \"[\" space call{listed} space \"]\" | call space \"</tool_call>\"{tagged})\nSEPARATOR: /[,;]?[ \\n]/\n{call}{SPACE}"
    )
}

/// Up to `most` - 1 repetitions.
fn further(rule: &str, most: usize) -> String {
    if most > 1 { format!(" ({rule}){{0,{}}}", most - 1) } else { String::new() }
}

/// The rules for one call of one of the tools; `key` is the arguments' key in this syntax.
fn call(tools: &[Tool], key: &str) -> String {
    let alternatives: Vec<String> = (0..tools.len()).map(|index| format!("call_{index}")).collect();
    let kind = "(\"\\\"type\\\"\" space \":\" space \"\\\"function\\\"\" space \",\" space)?";
    let mut rules = format!("call: {}\n", alternatives.join(" | "));
    for (index, tool) in tools.iter().enumerate() {
        // A string inside JSON inside a string of the grammar.
        let name = Value::String(Value::String(tool.name.clone()).to_string());
        rules += &format!(
            "call_{index}: \"{{\" space {kind} \"\\\"name\\\"\" space \":\" space {name} space \",\" space {key} space \":\" space arguments_{index} space \"}}\"\narguments_{index}: %json {}\n",
            tool.parameters
        );
    }
    rules
}
