//! JSON schemas → masks → answers ([`GrammarCompiler`]): a random walk over the tokens that a mask allows writes a value of its schema. The oracle is
//! [`fits`], which shares no code with the mask; Ajv is the one in `tests/node/json-mode.test.mjs`.

use crate::common::char_of_byte;
use crate::gguf_file::{File, list, number, string};
use crate::inputs::{Edit, edit, edited, text};
use crate::trial::{ANSWER, Outcome, check};
use candle_core::quantized::gguf_file;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Map, Value, json};
use std::rc::Rc;
use workers_ai_local::error::{AiError, ErrorCode};
use workers_ai_local::gguf::{BytesSource, Header, Reader};
use workers_ai_local::grammar::{Constraint, Grammar, GrammarCompiler, fits};
use workers_ai_local::tokenizer::Tokenizer;
use workers_ai_local::tools::{CallFormat, CallReader, Found, Tool};

// ── Schemas ──────────────────────────────────────────────────────────────────────────────────────────────────

const KEYS: &[&str] = &["id", "name", "a b", "say \"hi\"", "größe", "日本", "emoji 🙂", "back\\slash", "new\nline", "", "1"];
const PATTERNS: &[&str] =
    &["^[a-z]{2,8}$", "^\\d{3}-\\d{4}$", "^(red|green|blue)$", "^\\w{1,10}$", "^[^a-z]{1,5}$", "^[а-я]{1,6}$", "^\"\\\\{0,2}\"$", "^$|^x$"];
const FORMATS: &[&str] = &["date", "time", "date-time", "uuid", "ipv4", "ipv6"];

/// A JSON value, for literals.
fn literal() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000..1000i32).prop_map(Value::from),
        (-800..800i32).prop_map(|eighths| json!(f64::from(eighths) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(select(KEYS), inner, 0..3).prop_map(|fields| fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()),
        ]
    })
}

/// Bounds and steps that at least one number satisfies.
fn numeric() -> impl Strategy<Value = Value> {
    let bounds = (-1200..1200i32, 3..2000i32, select(vec![1.0, 0.5, 0.125]), 0..6);
    let whole = bounds.prop_map(|(low, range, step, kind)| {
        let kind_of = if step == 1.0 { "integer" } else { "number" };
        let at = |count: i32| if step == 1.0 { json!(count) } else { json!(f64::from(count) * step) };
        let (low, high) = (at(low), at(low + range));
        match kind {
            0 => json!({"type": kind_of}),
            1 => json!({"type": kind_of, "minimum": low}),
            2 => json!({"type": kind_of, "exclusiveMaximum": high}),
            3 => json!({"type": kind_of, "minimum": low, "maximum": high}),
            4 => json!({"type": kind_of, "exclusiveMinimum": low, "exclusiveMaximum": high}),
            _ => json!({"type": kind_of, "exclusiveMinimum": low, "maximum": high}),
        }
    });
    let steps = (-20..20i32, 0..40i32, 1..12i32).prop_map(
        |(first, more, step)| json!({"type": "integer", "multipleOf": step, "minimum": first * step, "maximum": (first + more) * step}),
    );
    prop_oneof![4 => whole, 1 => steps]
}

/// A schema all of whose values have a limited length, with at most `depth` levels of schemas in schemas.
fn bounded(depth: u32) -> BoxedStrategy<Value> {
    let length = (0..6u32, 0..16u32).prop_map(|(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more}));
    let leaf = prop_oneof![
        3 => length,
        1 => select(PATTERNS).prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        1 => select(FORMATS).prop_map(|format| json!({"type": "string", "format": format})),
        3 => numeric(),
        1 => select(vec![json!({"type": "boolean"}), json!({"type": "null"}), json!({"type": ["integer", "null"]}), json!({"type": ["null", "boolean"]})]),
        1 => literal().prop_map(|value| json!({"const": value})),
        1 => vec(literal(), 1..4).prop_map(|values| json!({"enum": values})),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = || bounded(depth - 1);
    let object =
        (subsequence(KEYS, 1..4), vec((inner(), prop::bool::weighted(0.7)), 4), any::<bool>()).prop_map(|(keys, properties, closed)| {
            let required: Vec<&str> = keys.iter().zip(&properties).filter(|(_, (_, required))| *required).map(|(key, _)| *key).collect();
            let named: Map<String, Value> =
                keys.iter().zip(&properties).map(|(key, (schema, _))| ((*key).to_owned(), schema.clone())).collect();
            let mut schema = json!({"type": "object", "properties": named, "required": required});
            if closed {
                schema["additionalProperties"] = json!(false);
            }
            schema
        });
    let items = (inner(), 0..3u32, 0..3u32)
        .prop_map(|(items, least, more)| json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more}));
    let tuple = (vec(inner(), 1..3), any::<bool>()).prop_map(|(items, whole)| {
        let count = items.len();
        json!({"type": "array", "prefixItems": items, "items": false, "minItems": if whole { count } else { 0 }, "maxItems": count})
    });
    let several = vec(inner(), 2..4).prop_map(|schemas| json!({"anyOf": schemas}));
    let reference = select(vec![json!({"$ref": "#/$defs/a"}), json!({"$ref": "#/$defs/b%20c"})]);
    prop_oneof![3 => leaf, 4 => object, 1 => items, 1 => tuple, 1 => several, 1 => reference].boxed()
}

/// A whole schema, with the definitions that it may refer to.
fn whole(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (of, bounded(0), bounded(0)).prop_map(|(schema, a, b)| {
        let mut schema = schema;
        if let Some(fields) = schema.as_object_mut()
            && Value::Object(fields.clone()).to_string().contains("$ref")
        {
            fields.insert("$defs".into(), json!({"a": a, "b c": b}));
        }
        schema
    })
}

/// The parameters of a tool.
fn parameters() -> impl Strategy<Value = Value> {
    let object = (subsequence(KEYS, 0..4), vec((bounded(1), any::<bool>()), 4));
    whole(object.prop_map(|(keys, properties)| {
        let required: Vec<&str> = keys.iter().zip(&properties).filter(|(_, (_, required))| *required).map(|(key, _)| *key).collect();
        let named: Map<String, Value> =
            keys.iter().zip(&properties).map(|(key, (schema, _))| ((*key).to_owned(), schema.clone())).collect();
        json!({"type": "object", "properties": named, "required": required, "additionalProperties": false})
    }))
}

/// Schemas with keywords that need not be supported, and schemas that are invalid, contradictory or without bounds.
fn wild() -> impl Strategy<Value = Value> {
    let of = |more: Value| {
        let mut schema = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"type": "string", "maxLength": 5}}});
        schema.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        schema
    };
    select(vec![
        json!({"type": "object"}),
        json!({"type": "array"}),
        json!({"type": "string"}),
        json!({}),
        json!(true),
        json!(false),
        json!([]),
        json!({"oneOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "number", "minimum": 5, "maximum": 20}]}),
        json!({"oneOf": [{"type": "integer", "maximum": 4}, {"type": "boolean"}]}),
        json!({"allOf": [{"type": "string", "maxLength": 8}, {"pattern": "^[a-z]"}, {"minLength": 3}]}),
        json!({"allOf": [of(json!({"required": ["a"]})), {"properties": {"c": {"type": "boolean"}}, "required": ["c"]}]}),
        of(json!({"required": ["a"], "anyOf": [{"required": ["b"]}, {"properties": {"c": {"const": 1}}, "required": ["c"]}]})),
        of(json!({"patternProperties": {"^x-": {"type": "boolean"}}, "additionalProperties": false})),
        of(json!({"patternProperties": {"^a": {"type": "integer", "multipleOf": 3}}})),
        of(json!({"minProperties": 2, "additionalProperties": {"type": "integer"}})),
        of(json!({"maxProperties": 1, "additionalProperties": {"type": "boolean"}})),
        of(json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}})),
        of(json!({"required": ["z"], "additionalProperties": false})),
        json!({"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "v": {"type": "boolean"}}, "required": ["next", "v"]}),
        json!({"type": "array", "items": {"$ref": "#"}, "maxItems": 2}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"$ref": "#named", "$defs": {"part": {"$anchor": "named", "type": "string", "maxLength": 3}}}),
        json!({"$ref": "#/$defs/a", "maxLength": 2, "$defs": {"a": {"type": "string", "maxLength": 9}}}),
        json!({"type": "array", "items": [{"type": "integer", "maximum": 3}], "additionalItems": false}),
        json!({"type": "number", "minimum": 1, "maximum": 2, "multipleOf": 7}),
        json!({"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 1e-7}),
        json!({"type": "integer", "minimum": 1e300}),
        json!({"type": "string", "pattern": "^(?=a)[a-z]{1,3}$"}),
        json!({"type": "string", "pattern": "(a{100}){100}"}),
        json!({"type": "string", "format": "date", "pattern": "^20"}),
        json!({"type": "string", "const": 7}),
        json!({"enum": []}),
    ])
}

const KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "$ref",
    "$defs",
    "$anchor",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "if",
    "then",
    "dependentRequired",
    "unevaluatedProperties",
    "x-guidance",
    "title",
];

// ── Walks ────────────────────────────────────────────────────────────────────────────────────────────────────

/// A vocabulary of bytes, and of words that begin, end and separate parts of JSON.
struct Vocabulary {
    tokenizer: Tokenizer,
    compiler: GrammarCompiler,
    end: u32,
    /// Tokens that close something.
    closing: Vec<u32>,
}

const WORDS: &[&str] = &[
    "{\"", "\":", "\": ", "\",", "\", \"", "\"}", "}", "]}", "}}", "[]", "[{\"", ",\"", ", ", "true", "false", "null", "00", "12", "-1",
    ".5", "ab", "the", "name", "日本", "é", "\\\"", "\\n", "  ",
];

impl Vocabulary {
    fn new() -> Self {
        let in_characters = |bytes: &[u8]| bytes.iter().map(|byte| char_of_byte(*byte)).collect::<String>();
        let mut tokens: Vec<String> = (0..=255).map(|byte| in_characters(&[byte])).collect();
        tokens.extend(WORDS.iter().map(|word| in_characters(word.as_bytes())).filter(|word| word.chars().nth(1).is_some()));
        tokens.push("</s>".into());
        let end = tokens.len() as u32 - 1;
        let kinds = (0..tokens.len()).map(|id| gguf_file::Value::I32(if id as u32 == end { 3 } else { 1 }));
        let text = |text: &String| gguf_file::Value::String(text.clone());
        let entries = vec![
            ("tokenizer.ggml.model".to_owned(), string("gpt2")),
            ("tokenizer.ggml.token_type".into(), list(kinds)),
            ("tokenizer.ggml.tokens".into(), list(tokens.iter().map(text))),
            ("tokenizer.ggml.merges".into(), list([gguf_file::Value::String("a b".into())])),
            ("tokenizer.ggml.eos_token_id".into(), number(end)),
        ];
        let mut reader = Reader::new(Rc::new(BytesSource::new("test.gguf", File::new(3, entries).bytes())), Box::new(|_| {}));
        let header = pollster::block_on(Header::read(&mut reader)).expect("a header");
        let tokenizer = Tokenizer::from_header(&header, "test.gguf").expect("a tokenizer");
        let compiler = GrammarCompiler::new(&tokenizer).expect("a compiler");
        let closing = ["\"", "}", "]", ",", "Z"]
            .iter()
            .filter_map(|word| tokens.iter().position(|token| token == word))
            .map(|id| id as u32)
            .collect();
        Self { tokenizer, compiler, end, closing }
    }

    /// Follows a constraint, as the engine does, through `limit` tokens at most; from `patience` tokens on, what can be closed is closed. Returns the
    /// text, and whether it is complete.
    fn walk(&self, constraint: &mut Constraint, seed: u64, patience: usize, limit: usize) -> Result<(String, bool), TestCaseError> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut bytes = Vec::new();
        for taken in 0..limit {
            let token = match constraint.closing_token(limit - taken) {
                Some(token) => token,
                None => {
                    let mut logits = vec![0.0; self.tokenizer.vocabulary_size()];
                    if let Err(error) = constraint.mask(&mut logits) {
                        prop_assert_eq!(error.code, ErrorCode::JsonModeNotMet);
                        return Ok((error.to_string(), false));
                    }
                    let allowed: Vec<u32> = (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id).collect();
                    prop_assert!(!allowed.is_empty(), "no token may follow {:?}", String::from_utf8_lossy(&bytes));
                    let is_allowed = |id: &&u32| allowed.binary_search(id).is_ok();
                    let close = std::iter::once(&self.end).chain(&self.closing).find(is_allowed).filter(|_| taken >= patience);
                    let any = allowed[rng.next_u32() as usize % allowed.len()];
                    let token = close.copied().unwrap_or(any);
                    constraint.instead_of(token, limit - taken).unwrap_or(token)
                }
            };
            if token == self.end {
                return Ok((text_of(bytes)?, true));
            }
            constraint.accept(token).map_err(|error| TestCaseError::fail(format!("an allowed token is refused: {error}")))?;
            bytes.extend(self.tokenizer.token_bytes(token));
            if constraint.must_end() {
                return Ok((text_of(bytes)?, true));
            }
        }
        let complete = constraint.is_complete();
        Ok((String::from_utf8_lossy(&bytes).into_owned(), complete))
    }
}

fn text_of(bytes: Vec<u8>) -> Result<String, TestCaseError> {
    String::from_utf8(bytes).map_err(|error| TestCaseError::fail(format!("a complete answer is not UTF-8: {error}")))
}

/// Schemas that cannot be guaranteed are an error of the input.
fn refused(error: &AiError) -> Outcome {
    prop_assert!(error.code == ErrorCode::InvalidInput && !error.text.is_empty(), "{}", error);
    Ok(error.to_string())
}

const UNFINISHED: &str = "unfinished";

#[test]
fn a_walk_writes_a_value_of_a_bounded_schema() {
    let vocabulary = Vocabulary::new();
    let inputs = (whole(bounded(2)), any::<u64>(), 0..80usize);
    check("schemas::a_walk_writes_a_value_of_a_bounded_schema", 200, inputs, |(schema, seed, patience)| {
        let mut constraint = match vocabulary.compiler.compile(&Grammar::Json(schema.clone())) {
            Ok(constraint) => constraint,
            Err(error) => return refused(&error),
        };
        let (text, complete) = vocabulary.walk(&mut constraint, seed, patience, 3000)?;
        prop_assert!(complete, "no end: {}", text);
        let value: Value = serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert!(fits(&schema, &value), "the answer does not fit: {}", text);
        Ok(ANSWER.into())
    });
}

#[test]
fn any_schema_has_a_mask_or_an_error() {
    let vocabulary = Vocabulary::new();
    let schemas = prop_oneof![1 => wild(), 2 => (whole(bounded(2)), vec(edit(KEYWORDS), 1..4)).prop_map(|(schema, edits): (Value, Vec<Edit>)| edited(schema, &edits)), 1 => (wild(), vec(edit(KEYWORDS), 1..3)).prop_map(|(schema, edits): (Value, Vec<Edit>)| edited(schema, &edits))];
    check("schemas::any_schema_has_a_mask_or_an_error", 300, (schemas, any::<u64>(), 0..40usize), |(schema, seed, patience)| {
        let mut constraint = match vocabulary.compiler.compile(&Grammar::Json(schema.clone())) {
            Ok(constraint) => constraint,
            Err(error) => return refused(&error),
        };
        let (text, complete) = vocabulary.walk(&mut constraint, seed, patience, 400)?;
        if !complete {
            return Ok(if text.starts_with("5024: ") { text } else { UNFINISHED.into() });
        }
        let value: Value = match serde_json::from_str(&text) {
            Ok(value) => value,
            // Where schemas are combined, values without a schema stay open. The answer is 5024.
            Err(error) if error.to_string().starts_with("number out of range") => return Ok(error.to_string()),
            Err(error) => return Err(TestCaseError::fail(format!("{error}: {text}"))),
        };
        prop_assert!(fits(&schema, &value), "the answer does not fit: {}", text);
        Ok(ANSWER.into())
    });
}

#[test]
fn forced_calls_are_complete_in_time() {
    let vocabulary = Vocabulary::new();
    let formats = select(vec![CallFormat::Hermes, CallFormat::Mistral, CallFormat::Llama3, CallFormat::Bare]);
    let inputs = (parameters(), formats, 1..4usize, any::<u64>(), 250..900usize);
    check("schemas::forced_calls_are_complete_in_time", 100, inputs, |(parameters, format, max_calls, seed, limit)| {
        forced_calls(&vocabulary, parameters, format, max_calls, seed, limit)
    });
}

/// The search for the end took the marker that opens a further call for the one that closes the last.
#[test]
fn forced_calls_end_with_the_closing_marker() {
    let id = json!({
        "type": "object",
        "properties": {"größe": {"type": ["integer", "null"]}, "1": {"type": "string", "format": "date"}},
        "required": ["1"],
    });
    let parameters = json!({"type": "object", "properties": {"id": id}, "required": [], "additionalProperties": false});
    let outcome = forced_calls(&Vocabulary::new(), parameters, CallFormat::Hermes, 3, 8_425_707_983_833_265_448, 286);
    assert_eq!(outcome.map_err(|error| error.to_string()).as_deref(), Ok(ANSWER));
}

/// Forced calls of a model that never ends by itself are complete within `limit` tokens, and fit their schema.
fn forced_calls(vocabulary: &Vocabulary, parameters: Value, format: CallFormat, max_calls: usize, seed: u64, limit: usize) -> Outcome {
    let tools = vec![Tool { name: "f".into(), description: None, parameters }];
    let mut constraint = match vocabulary.compiler.compile(&Grammar::Calls { tools: tools.clone(), format, max_calls }) {
        Ok(constraint) => constraint,
        Err(error) => return refused(&error),
    };
    let (text, complete) = vocabulary.walk(&mut constraint, seed, usize::MAX, limit)?;
    prop_assert!(complete, "not complete within {} tokens: {}", limit, text);
    let mut reader = CallReader::new(tools.iter().map(|tool| tool.name.clone()).collect(), true);
    let mut found = reader.push(&text);
    found.extend(reader.finish(!found.is_empty()));
    prop_assert!((1..=max_calls).contains(&found.len()), "{} calls: {}", found.len(), text);
    for found in found {
        let Found::Call(call, _) = found else { return Err(TestCaseError::fail(format!("no call: {found:?} in {text}"))) };
        let schema = tools.iter().find(|tool| tool.name == call.name).map(|tool| &tool.parameters);
        prop_assert!(schema.is_some_and(|schema| fits(schema, &call.arguments)), "the arguments do not fit: {:?}", call);
    }
    Ok(ANSWER.into())
}
