//! Chat templates ([`ChatTemplate`], [`render`]) over conversations of any kind.

use crate::inputs::{Edit, edit, edited, text};
use crate::memory::most_of;
use crate::requests::FIELDS;
use crate::trial::{ANSWER, Outcome, check};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use workers_ai_local::error::ErrorCode;
use workers_ai_local::input::TextGenerationRequest;
use workers_ai_local::prompt::{ChatFormat, ChatTemplate, render, template_for};

/// Templates in the styles of the model families.
const TEMPLATES: &[&str] = &[
    include_str!("../fixtures/templates/headers.jinja"),
    include_str!("../fixtures/templates/alternating.jinja"),
    include_str!("../fixtures/templates/xml-tools.jinja"),
    include_str!("../fixtures/templates/thoughts.jinja"),
    include_str!("../fixtures/templates/first-turn.jinja"),
    include_str!("../fixtures/templates/titles.jinja"),
];

/// Pieces that break a template, or give it much to do.
const PIECES: &[&str] = &[
    "{%",
    "%}",
    "{{",
    "}}",
    "{#",
    "#}",
    "-",
    "'",
    "\"",
    "\\",
    "{% endif %}",
    "{% endfor %}",
    "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "{{ messages[99] }}",
    "{{ messages[-1].content[:-1] }}",
    "{{ 1 / 0 }}",
    "{{ 2 ** 64 }}",
    "{{ 9223372036854775807 + 1 }}",
    "{{ -9223372036854775808 // -1 }}",
    "{{ '%d' % 'a' }}",
    "{{ '%999999999s' % 'a' }}",
    "{{ 'é'[1:] }}",
    "{{ messages | map('upper') | list }}",
    "{{ self }}",
    "{{ loop }}",
    "{% include 'a' %}",
    "{% extends 'a' %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ messages | tojson(indent=1000) }}",
    "{{ messages | sort }}",
    "{{ messages.append(messages) }}",
    "{{ namespace() }}",
    "{% set messages = none %}",
    "{{ strftime_now('%Q%9999999d') }}",
    "{{ ''.join(messages) }}",
    "{{ 'a'.split('') }}",
    "{{ 'a'.replace('', 'b') }}",
    "{{ 'x'.center(99999999) }}",
    "{{ messages[::0] }}",
    "{{ messages[9223372036854775807::-9223372036854775808] }}",
    "{{ messages[::-1] }}",
    "{{ messages[1::-2] }}",
    "{{ ''[5:1:-1] }}",
    "{{ raise_exception(messages) }}",
    "{{ raise_exception() }}",
    "{% break %}",
    "{% continue %}",
    "{% do messages %}",
    "{% generation %}",
    "{% endgeneration %}",
    "{{ x | default(y) | default(z) }}",
    "{{ messages | length }}",
    "{{ bos_token }}",
];
/// Pieces that cost more than all others together; few inputs have one.
const COSTLY: &[&str] = &[
    "{{ 'a' * 1000000 }}",
    "{{ range(100000) | list }}",
    "{% for i in range(1000000) %}{{ i }}{% endfor %}",
    "{{ ('a' * 100000) | upper | list | sort | join }}",
];

/// Deep or long tags.
fn long_piece() -> impl Strategy<Value = String> {
    let links = vec!["-", "not ", "1+", "(", "[", "x.a", "x|string|", "1 if 1 else "];
    let tag = (select(links), 1..600usize).prop_map(|(link, times)| format!("{{{{ {}1 }}}}", link.repeat(times)));
    let blocks = (select(vec!["{% if 1 %}", "{% for a in [1] %}", "{% elif 0 %}", "{# "]), 1..300usize)
        .prop_map(|(block, times)| block.repeat(times));
    prop_oneof![3 => tag, 1 => blocks]
}

/// A template of the usual shapes, with up to three places changed.
fn damaged() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        60 => select(PIECES).prop_map(str::to_owned),
        // A part of another template.
        30 => (select(TEMPLATES), any::<Index>(), 0..60usize).prop_map(|(other, at, length)| {
            let letters: Vec<char> = other.chars().collect();
            letters[at.index(letters.len())..].iter().take(length).collect()
        }),
        10 => text(),
        2 => long_piece(),
        1 => select(COSTLY).prop_map(str::to_owned),
    ];
    let change = (any::<Index>(), prop_oneof![1 => Just(0usize), 1 => 0..40usize], piece);
    (select(TEMPLATES), vec(change, 0..4)).prop_map(|(template, changes)| {
        let mut letters: Vec<char> = template.chars().collect();
        for (at, length, piece) in changes {
            let at = at.index(letters.len() + 1);
            letters.splice(at..(at + length).min(letters.len()), piece.chars());
        }
        letters.into_iter().collect()
    })
}

fn content() -> impl Strategy<Value = Value> {
    prop_oneof![4 => text().prop_map(Value::from), 1 => text().prop_map(|text| json!([{"type": "text", "text": text}]))]
}

/// A conversation of valid turns in any order.
fn conversation() -> impl Strategy<Value = Vec<Value>> {
    let arguments = select(vec![
        json!("{\"a\": 1}"),
        json!("{}"),
        json!(""),
        json!("null"),
        json!("{\"a\":"),
        json!({"a": 1}),
        json!([]),
        json!("1e999"),
        json!("{\"a\": 1}{\"a\": 2}"),
    ]);
    let id = || select(vec!["a", "abcdefghi", "call_123456789", ""]);
    let call = (id(), select(vec!["f", "now", ""]), arguments)
        .prop_map(|(id, name, arguments)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}));
    let turn = prop_oneof![
        3 => content().prop_map(|content| json!({"role": "user", "content": content})),
        2 => content().prop_map(|content| json!({"role": "assistant", "content": content})),
        1 => content().prop_map(|content| json!({"role": "system", "content": content})),
        1 => (content(), vec(call, 0..3)).prop_map(|(content, calls)| json!({"role": "assistant", "content": content, "tool_calls": calls})),
        1 => (content(), id()).prop_map(|(content, id)| json!({"role": "tool", "content": content, "tool_call_id": id})),
        1 => (content(), select(vec!["developer", "ipython", "", "é"])).prop_map(|(content, role)| json!({"role": role, "content": content})),
    ];
    (any::<bool>(), vec(turn, 0..6))
        .prop_map(|(greets, turns)| greets.then(|| json!({"role": "user", "content": "Hi"})).into_iter().chain(turns).collect())
}

/// A request with a conversation, sometimes with tools and with variables.
fn request() -> impl Strategy<Value = Value> {
    let tools = select(vec![
        json!(null),
        json!(null),
        json!([{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}]),
        json!([{"name": "now"}]),
    ]);
    let variables = select(vec![
        json!(null),
        json!(null),
        json!({"enable_thinking": false}),
        json!({"tools": [], "messages": 1}),
        json!({"documents": [[1, 2]], "bos_token": 7}),
    ]);
    (conversation(), tools, variables)
        .prop_map(|(messages, tools, variables)| json!({"messages": messages, "tools": tools, "chat_template_kwargs": variables}))
}

/// Memory of one rendering. Its work is bounded by fuel, so its text is, too.
const MOST: usize = 400 << 20;

/// The outcome of a template over a request: a text or an error that says whose fault it is.
fn outcome(template: &str, request: Value) -> Outcome {
    let Ok(request) = TextGenerationRequest::from_value(request) else { return Ok("an invalid request".into()) };
    let (result, most) =
        most_of(|| ChatTemplate::new(template, "<s>", "</s>").and_then(|template| render(&request, &template, &|text| text.to_owned())));
    prop_assert!(most <= MOST, "{most} bytes of memory");
    match result {
        Ok(_) => Ok(ANSWER.into()),
        Err(error) => {
            prop_assert_eq!(error.code, ErrorCode::InvalidData);
            prop_assert!(error.text.starts_with("The model's chat template "), "{}", error);
            // A template may repeat messages in what it raises.
            Ok(error.to_string().split(['[', '<']).next().unwrap_or_default().to_owned())
        }
    }
}

#[test]
fn any_template_gives_a_text_or_an_error() {
    let requests = prop_oneof![3 => request(), 1 => (request(), vec(edit(FIELDS), 1..3)).prop_map(|(request, edits): (Value, Vec<Edit>)| edited(request, &edits))];
    check("templates::any_template_gives_a_text_or_an_error", 800, (damaged(), requests), |(template, request)| {
        outcome(&template, request)
    });
}

/// A text without Python's white space at its ends.
fn stripped(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter))
}

#[test]
fn built_in_templates_write_every_conversation() {
    let turn = (select(vec!["user", "assistant", "system", "é"]), text()).prop_map(|(role, content)| (role, content));
    check("templates::built_in_templates_write_every_conversation", 1000, vec(turn, 0..6), |turns| {
        let messages: Vec<Value> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        let request =
            TextGenerationRequest::from_value(json!({"messages": messages})).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let rendered = |format| {
            let template = ChatTemplate::new(template_for(format), "<s>", "</s>")?;
            render(&request, &template, &|text| text.to_owned())
        };
        let written = |turn: fn(&str, &str) -> String| turns.iter().map(|(role, content)| turn(role, content)).collect::<String>();
        // As the models' makers document them.
        let chat_ml = written(|role, content| format!("<|im_start|>{role}\n{content}<|im_end|>\n")) + "<|im_start|>assistant\n";
        prop_assert_eq!(rendered(ChatFormat::ChatMl), Ok(chat_ml));
        let llama3 = written(|role, content| format!("<|start_header_id|>{role}<|end_header_id|>\n\n{}<|eot_id|>", stripped(content)));
        prop_assert_eq!(rendered(ChatFormat::Llama3), Ok(format!("<s>{llama3}<|start_header_id|>assistant<|end_header_id|>\n\n")));
        let plain: Vec<&str> = turns.iter().map(|(_, content)| content.as_str()).collect();
        prop_assert_eq!(rendered(ChatFormat::Plain), Ok(plain.join("\n")));
        for format in [ChatFormat::Llama2, ChatFormat::Mistral] {
            let text = rendered(format).map_err(|error| TestCaseError::fail(error.to_string()))?;
            // A system turn is part of the next turn of a user.
            let shown = turns
                .iter()
                .enumerate()
                .filter(|(index, (role, _))| *role != "system" || turns.get(index + 1).is_some_and(|(next, _)| *next == "user"));
            for (_, (_, content)) in shown {
                prop_assert!(text.contains(stripped(content)), "{:?} is not in {:?}", content, text);
            }
        }
        Ok(ANSWER.into())
    });
}
