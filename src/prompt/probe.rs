//! What a chat template shows of a conversation, found by rendering samples: templates mention what they do not show, and leave out what they do
//! not mention.

use super::tools::{with_arguments_in_text, with_null_content};
use crate::tools::Tool;
use serde_json::{Map, Value, json};

/// What reaches the model through a template.
pub struct Shown {
    /// The request's `tools`.
    pub tools: bool,
    /// The texts of system turns. Some templates reject such turns, others leave them out.
    pub system_turns: bool,
    /// The calls of an assistant turn.
    pub calls: bool,
    /// All calls of an assistant turn, not only the first one.
    pub parallel_calls: bool,
    /// The turns with results of calls.
    pub results: bool,
}

/// Texts that no template contains.
const PROBE: &str = "probe_7f3a9c";
const CALL_PROBE: &str = "probe_2b8e41";

impl Shown {
    /// `render`: turns and variables → text, or `None` if the template fails. `uses_tools`: whether it has a variable `tools`, which decides if
    /// it fails for every sample.
    pub fn by(render: impl Fn(&[Value], &Map<String, Value>) -> Option<String>, uses_tools: bool) -> Self {
        let none = Map::new();
        let system_turns = match render(&[turn("system", PROBE), turn("user", "a")], &none) {
            Some(text) => text.contains(PROBE),
            // If it rejects any conversation, that is not because of the system turn.
            None => render(&[turn("user", "a")], &none).is_none(),
        };
        let with_tools = [vec![turn("user", "a")], vec![turn("system", "a"), turn("user", "a")]];
        let with_tools: Vec<String> = with_tools.iter().filter_map(|turns| render(turns, &offering(PROBE))).collect();
        let tools = if with_tools.is_empty() { uses_tools } else { with_tools.iter().any(|text| text.contains(PROBE)) };
        let after = |calls: &[&str]| after_calls(calls).iter().find_map(|turns| render(turns, &offering("f")));
        let one = after(&[CALL_PROBE]);
        let two = one.as_ref().map(|_| after(&["a", CALL_PROBE]));
        let shown = |text: &Option<String>, probe| text.as_ref().is_none_or(|text| text.contains(probe));
        let calls = shown(&one, CALL_PROBE);
        // A template may reject more than one call.
        let parallel_calls = !calls || two.is_none_or(|text| text.is_some_and(|text| text.contains(CALL_PROBE)));
        Self { tools, system_turns, calls, parallel_calls, results: shown(&one, PROBE) }
    }
}

/// Calls with these arguments and their results, in the forms that templates want.
fn after_calls(arguments: &[&str]) -> Vec<Vec<Value>> {
    let id = |index: usize| format!("call{index:05}");
    let function = |value: &str| json!({"name": "f", "arguments": {"a": value}});
    let calls =
        arguments.iter().enumerate().map(|(index, value)| json!({"id": id(index), "type": "function", "function": function(value)}));
    let calls: Vec<Value> = calls.collect();
    let results = (0..calls.len()).map(|index| json!({"role": "tool", "content": PROBE, "name": "f", "tool_call_id": id(index)}));
    let begin = [turn("user", "a"), json!({"role": "assistant", "content": "", "tool_calls": calls})];
    let turns: Vec<Value> = begin.into_iter().chain(results).collect();
    let with_null = with_null_content(&turns);
    let forms = [Some(turns), with_null].into_iter().flatten();
    forms.flat_map(|turns| [Some(turns.clone()), with_arguments_in_text(&turns)]).flatten().collect()
}

/// The variables when one tool of this name is offered.
fn offering(name: &str) -> Map<String, Value> {
    let parameters = json!({"type": "object", "properties": {"a": {"type": "string", "description": "a"}}, "required": ["a"]});
    let tool = Tool { name: name.into(), description: Some("a".into()), parameters };
    Map::from_iter([("tools".to_owned(), json!([tool.for_template()]))])
}

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

#[cfg(test)]
mod tests {
    use crate::prompt::ChatTemplate;

    /// Whether tools, system turns, calls, parallel calls and results are shown.
    fn shown(source: &str) -> [bool; 5] {
        let template = ChatTemplate::new(source, "<s>", "</s>").expect("a template");
        let shown = template.shown();
        [shown.tools, shown.system_turns, shown.calls, shown.parallel_calls, shown.results]
    }

    const CONTENTS: &str = "{% for m in messages %}{{ m.content }}{% endfor %}";

    #[test]
    fn what_a_template_shows() {
        assert_eq!(shown(CONTENTS), [false, true, false, true, true]);
        assert_eq!(shown(&format!("{{{{ tools | tojson }}}}{CONTENTS}")), [true, true, false, true, true]);
        assert_eq!(shown("{{ messages }}"), [false, true, true, true, true]);
        assert_eq!(shown("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"), [false, false, false, true, false]);
        let first =
            "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.a }}{% endif %}{% endfor %}";
        assert_eq!(shown(first), [false, true, true, false, true]);
    }

    #[test]
    fn mentioned_is_not_shown_and_shown_needs_no_mention() {
        assert!(!shown("{% set tools = none %}{{ tools }}")[0]);
        assert!(!shown("{% if tools %}Use them.{% endif %}{{ messages }}")[0]);
        assert!(
            shown("{% if tools is not defined %}{% set tools = [] %}{% endif %}{% for t in tools %}{{ t.function.name }}{% endfor %}")[0]
        );
    }

    #[test]
    fn a_template_that_rejects_is_not_one_that_leaves_out() {
        let refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages }}";
        assert!(!shown(refuses)[1]);
        assert_eq!(shown("{{ raise_exception('never') }}{{ tools }}"), [true; 5]);
    }
}
