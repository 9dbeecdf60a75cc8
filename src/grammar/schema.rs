//! JSON Schema → the subset that the token mask can guarantee.
//!
//! Keywords that only annotate are dropped. Keywords that constrain but cannot be guaranteed are an error. The rest is narrowed
//! where a schema allows more than a small model should use: numbers stay in the range that JavaScript represents exactly, untyped
//! values nest at most `ANY_DEPTH` levels, and objects have only the named properties. So every result still matches the requested
//! schema.

use super::pattern;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// JavaScript's `Number.MAX_SAFE_INTEGER`, 2⁵³ − 1.
const MAX_SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// Maximum nesting of arrays and objects inside a value that the schema does not restrict.
const ANY_DEPTH: usize = 5;

/// Maximum nesting of subschemas, references followed. Deeper ones would overflow WebAssembly's stack.
const MAX_DEPTH: usize = 64;

/// Maximum number of properties of one object, and of members of one `enum`: the compiler's stack grows with each.
const MAX_MEMBERS: usize = 500;

/// Maximum number of JSON values in a schema.
const MAX_VALUES: usize = 10_000;

/// Keywords whose value is one subschema.
const SINGLE_SUBSCHEMA: &[&str] = &["items", "additionalItems", "additionalProperties"];
/// Keywords whose value is a list of subschemas. (`items` is one in older drafts.)
const SUBSCHEMA_LIST: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords whose value is an object of subschemas.
const SUBSCHEMA_MAP: &[&str] = &["properties", "patternProperties"];
/// Other keywords, which are copied unchanged.
const COPIED: &[&str] = &[
    "type",
    "minItems",
    "maxItems",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];
/// Keywords whose constraints a token mask cannot enforce.
const UNSUPPORTED: &[&str] = &[
    "not",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "$recursiveRef",
];
/// Values of `format` that are guaranteed. Others count as annotations.
const GUARANTEED_FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// The schema of any JSON object.
pub fn any_object() -> Value {
    prepare(&json!({"type": "object"}), Guarantee::Complete).unwrap_or_else(|_| json!({"type": "object", "additionalProperties": false}))
}

/// Whether a keyword that the mask cannot enforce is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// It is: every result matches the whole schema.
    Complete,
    /// It is ignored: results match the rest of the schema.
    BestEffort,
}

/// The schema of a tool's arguments: an object, whatever else the tool's `parameters` allow.
///
/// # Errors
///
/// A reason, if `parameters` allow no object.
pub fn arguments(parameters: &Value) -> Result<Value, String> {
    let mut schema = parameters.clone();
    let Value::Object(fields) = &mut schema else { return Err("it must be an object".into()) };
    let allows_objects = match fields.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|name| name == "object"),
        Some(name) => name == "object",
    };
    let members = fields.get("enum").and_then(Value::as_array);
    if !allows_objects || members.is_some_and(|members| !members.iter().any(Value::is_object)) {
        return Err("a tool's arguments are an object, which it does not allow".into());
    }
    fields.insert("type".into(), Value::String("object".into()));
    Ok(schema)
}

/// Prepares a schema for compilation by llguidance: reduces it to what is guaranteed and adds the layout of the JSON text.
///
/// # Errors
///
/// A reason that names the keyword and its path, if the schema is not supported or too large.
pub fn prepare(schema: &Value, guarantee: Guarantee) -> Result<Value, String> {
    check_extent(schema)?;
    ReferenceCycles { root: schema, path: Vec::new(), acyclic: HashSet::new() }.check(schema, 0)?;
    let keep_open = {
        // If schemas are combined, closing one part would forbid properties that another part adds.
        let text = schema.to_string();
        text.contains("\"allOf\"") || combines(schema)
    };
    let mut preparation = Preparation { root: schema, keep_open, guarantee, targets: Vec::new() };
    let mut prepared = preparation.at(schema, "#", 0)?;
    // Referenced schemas, which may refer to others. They get names of ours, because the compiler reads names literally.
    let mut definitions = Map::new();
    while let Some((path, target)) = preparation.targets.get(definitions.len()).cloned() {
        definitions.insert(definition_name(definitions.len()), preparation.at(target, &path, 0)?);
    }
    definitions.extend((0..=ANY_DEPTH).map(|depth| (any_name(depth), any_value(depth))));
    if !prepared.is_object() {
        prepared = json!({"allOf": [prepared]});
    }
    check_depth(&prepared, &definitions)?;
    if let Value::Object(root) = &mut prepared {
        root.insert("$defs".into(), Value::Object(definitions));
        // One line, with at most one space after commas and colons, so that a model cannot write white space forever.
        // No \u escapes: with them, a key that has its own schema could be spelled in a way that is not recognised.
        let escapes = "nrbtf\\\"";
        let layout =
            json!({"whitespace_flexible": false, "item_separator": ", ?", "key_separator": ": ?", "json_allowed_escapes": escapes});
        root.insert("x-guidance".into(), layout);
    }
    Ok(prepared)
}

/// Finds reference cycles that apply to one and the same value, that is, without descending into a property or an item. No value matches
/// them, or their behaviour is undefined (JSON Schema 2020-12, core, 9.4.1).
struct ReferenceCycles<'a> {
    root: &'a Value,
    /// The schemas from the first one to the current one, all of which apply to the same value.
    path: Vec<&'a Value>,
    /// Addresses of schemas that are known to have no such cycle.
    acyclic: HashSet<*const Value>,
}

impl<'a> ReferenceCycles<'a> {
    /// Checks `schema` and every schema nested in it.
    fn check(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        // `prepare_at` rejects deeper nesting.
        if depth > 2 * MAX_DEPTH {
            return Ok(());
        }
        self.follow(schema)?;
        match schema {
            Value::Object(fields) => fields.values().try_for_each(|inner| self.check(inner, depth + 1)),
            Value::Array(list) => list.iter().try_for_each(|inner| self.check(inner, depth + 1)),
            _ => Ok(()),
        }
    }

    /// Follows the references and alternatives of a schema that apply to the same value.
    fn follow(&mut self, schema: &'a Value) -> Result<(), String> {
        let Value::Object(fields) = schema else { return Ok(()) };
        let address: *const Value = schema;
        if self.acyclic.contains(&address) {
            return Ok(());
        }
        if self.path.iter().any(|outer| std::ptr::eq(*outer, schema)) || self.path.len() > MAX_DEPTH {
            return Err("a '$ref' leads back to itself".into());
        }
        self.path.push(schema);
        let target = fields.get("$ref").and_then(Value::as_str).and_then(|reference| target_of(self.root, reference));
        let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| fields.get(*key)?.as_array()).flatten();
        for schema in target.into_iter().chain(parts) {
            self.follow(schema)?;
        }
        self.path.pop();
        self.acyclic.insert(address);
        Ok(())
    }
}

fn any_name(depth: usize) -> String {
    format!("any-value-{depth}")
}

fn any_reference(depth: usize) -> Value {
    json!({"$ref": format!("#/$defs/{}", any_name(depth))})
}

/// The schema of any value with at most `depth` levels of arrays and objects.
fn any_value(depth: usize) -> Value {
    let number = json!({"type": "number", "minimum": -MAX_SAFE_INTEGER, "maximum": MAX_SAFE_INTEGER});
    let mut kinds = vec![json!({"type": ["string", "boolean", "null"]}), number];
    if depth > 0 {
        let inner = any_reference(depth - 1);
        kinds.push(json!({"type": "array", "items": inner}));
        kinds.push(json!({"type": "object", "additionalProperties": inner}));
    }
    json!({"anyOf": kinds})
}

/// Whether any object schema inside `schema` has a reference or alternatives beside it that may add properties.
fn combines(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            let object = ["properties", "required", "patternProperties"].iter().any(|key| fields.contains_key(*key));
            let combined = ["$ref", "anyOf", "oneOf"].iter().any(|key| fields.contains_key(*key));
            (object && combined) || fields.values().any(combines)
        }
        Value::Array(list) => list.iter().any(combines),
        _ => false,
    }
}

/// Rejects schemas that are too large to compile, before anything is computed for them.
fn check_extent(schema: &Value) -> Result<(), String> {
    let mut values = 0;
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        values += 1;
        if values > MAX_VALUES {
            return Err(format!("it has more than {MAX_VALUES} values"));
        }
        match value {
            Value::Object(fields) => {
                let members = |key: &str| match fields.get(key) {
                    Some(Value::Object(members)) => members.len(),
                    Some(Value::Array(members)) => members.len(),
                    _ => 0,
                };
                for key in ["properties", "patternProperties", "enum", "anyOf", "oneOf", "allOf", "prefixItems", "required"] {
                    if members(key) > MAX_MEMBERS {
                        return Err(format!("a '{key}' in it has more than {MAX_MEMBERS} members"));
                    }
                }
                open.extend(fields.values());
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
    Ok(())
}

/// Rejects prepared schemas that nest too deep when each definition is compiled where it is first referred to, as llguidance does.
fn check_depth(schema: &Value, definitions: &Map<String, Value>) -> Result<(), String> {
    fn walk<'a>(value: &'a Value, definitions: &'a Map<String, Value>, seen: &mut HashSet<&'a str>, depth: usize) -> Result<(), String> {
        if depth > 2 * MAX_DEPTH {
            return Err(format!("it nests deeper than {MAX_DEPTH} levels, references followed"));
        }
        match value {
            Value::Object(fields) => {
                let name = fields.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix("#/$defs/"));
                if let Some(name) = name
                    && seen.insert(name)
                    && let Some(target) = definitions.get(name)
                {
                    walk(target, definitions, seen, depth + 1)?;
                }
                fields.values().try_for_each(|inner| walk(inner, definitions, seen, depth + 1))
            }
            Value::Array(list) => list.iter().try_for_each(|inner| walk(inner, definitions, seen, depth + 1)),
            _ => Ok(()),
        }
    }
    walk(schema, definitions, &mut HashSet::new(), 0)
}

/// The schema that a local reference names: `#`, a JSON pointer in a URI fragment (RFC 6901, section 6), or an `$anchor`.
pub fn target_of<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let fragment = percent_decoded(reference.strip_prefix('#')?)?;
    if fragment.is_empty() || fragment.starts_with('/') { root.pointer(&fragment) } else { anchored(root, &fragment) }
}

fn anchored<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    match schema {
        Value::Object(fields) if fields.get("$anchor").is_some_and(|anchor| anchor == name) => Some(schema),
        Value::Object(fields) => fields.values().find_map(|inner| anchored(inner, name)),
        Value::Array(list) => list.iter().find_map(|inner| anchored(inner, name)),
        _ => None,
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn definition_name(index: usize) -> String {
    format!("definition-{index}")
}

/// One schema in preparation.
struct Preparation<'a> {
    root: &'a Value,
    /// See [`narrow`].
    keep_open: bool,
    guarantee: Guarantee,
    /// The schemas that references name, each with the reference.
    targets: Vec<(String, &'a Value)>,
}

impl<'a> Preparation<'a> {
    /// The name of the definition for a local reference.
    fn reference(&mut self, value: &Value, path: &str) -> Result<Value, String> {
        let Some(reference) = value.as_str() else { return Err(format!("'{path}/$ref' must be a string")) };
        let Some(target) = target_of(self.root, reference) else {
            return Err(format!("'{path}/$ref' refers to '{reference}', which is not in the schema"));
        };
        let known = self.targets.iter().position(|(_, other)| std::ptr::eq(*other, target));
        let index = known.unwrap_or_else(|| {
            self.targets.push((reference.to_owned(), target));
            self.targets.len() - 1
        });
        Ok(Value::String(format!("#/$defs/{}", definition_name(index))))
    }

    /// Prepares one subschema. `path` is its place, for error messages.
    fn at(&mut self, schema: &Value, path: &str, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it nests deeper than {MAX_DEPTH} levels"));
        }
        let fields = match schema {
            Value::Bool(true) => return Ok(any_reference(ANY_DEPTH)),
            Value::Bool(false) => return Ok(Value::Bool(false)),
            Value::Object(fields) => fields,
            _ => return Err(format!("'{path}' must be an object or a boolean")),
        };
        if fields.contains_key("prefixItems") && fields.get("items").is_some_and(Value::is_array) {
            return Err(format!("'{path}/items' must be one schema beside 'prefixItems'"));
        }
        let guarantee = self.guarantee;
        let mut below = |key: &str, value: &Value| self.at(value, &format!("{path}/{key}"), depth + 1);
        let mut out = Map::new();
        for (key, value) in fields {
            let key = key.as_str();
            if matches!(key, "$defs" | "definitions") {
                // Definitions are prepared when something refers to them.
            } else if key == "additionalItems" && !fields.get("items").is_some_and(Value::is_array) {
                // Without a list of items it has no meaning.
            } else if UNSUPPORTED.contains(&key) {
                let harmless = match key {
                    "uniqueItems" => value == &Value::Bool(false),
                    "propertyNames" => value == &Value::Bool(true) || value == &json!({"type": "string"}) || value == &json!({}),
                    "unevaluatedProperties" | "unevaluatedItems" => value == &Value::Bool(true) || value == &json!({}),
                    "then" | "else" => !fields.contains_key("if"),
                    _ => false,
                };
                if !harmless && guarantee == Guarantee::Complete {
                    return Err(format!("'{path}/{key}' cannot be guaranteed"));
                }
            } else if let (true, Value::Array(list)) = (SUBSCHEMA_LIST.contains(&key), value) {
                let list: Result<Vec<Value>, String> =
                    list.iter().enumerate().map(|(index, value)| below(&format!("{key}/{index}"), value)).collect();
                out.insert(key.into(), Value::Array(list?));
            } else if SINGLE_SUBSCHEMA.contains(&key) {
                out.insert(key.into(), below(key, value)?);
            } else if SUBSCHEMA_MAP.contains(&key) {
                let Value::Object(named) = value else { return Err(format!("'{path}/{key}' must be an object")) };
                // No key that is written can match a pattern that needs what cannot be written.
                let writable = |name: &String| key != "patternProperties" || pattern::is_writable(name);
                let named: Result<Map<String, Value>, String> = named
                    .iter()
                    .filter(|(name, _)| writable(name))
                    .map(|(name, value)| Ok((name.clone(), below(&format!("{key}/{name}"), value)?)))
                    .collect();
                out.insert(key.into(), Value::Object(named?));
            } else if key == "format" && !value.as_str().is_some_and(|format| GUARANTEED_FORMATS.contains(&format)) {
                // An annotation.
            } else if key == "$ref" {
                // Resolved below, when `below` no longer borrows.
            } else if key == "const" || key == "enum" {
                let kept = match value {
                    Value::Array(members) if key == "enum" && !members.is_empty() => {
                        let kept: Vec<Value> = members.iter().filter(|member| is_writable(member)).cloned().collect();
                        (!kept.is_empty()).then_some(Value::Array(kept))
                    }
                    _ => is_writable(value).then(|| value.clone()),
                };
                match kept {
                    Some(kept) => drop(out.insert(key.into(), kept)),
                    None if guarantee == Guarantee::Complete => {
                        return Err(format!("'{path}/{key}' cannot be guaranteed, because of a control character"));
                    }
                    None => {}
                }
            } else if key == "pattern" && !value.as_str().is_none_or(pattern::is_writable) {
                if guarantee == Guarantee::Complete {
                    return Err(format!("'{path}/{key}' cannot be guaranteed, because of a control character"));
                }
            } else if COPIED.contains(&key) || SUBSCHEMA_LIST.contains(&key) {
                out.insert(key.into(), value.clone());
            }
        }
        if let Some(reference) = fields.get("$ref") {
            out.insert("$ref".into(), self.reference(reference, path)?);
        }
        narrow(&mut out, self.keep_open);
        // The mask cannot prevent that a model writes an unnamed key twice, and duplicates count once.
        let named = out.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        let free = out.get("additionalProperties") != Some(&Value::Bool(false)) || out.contains_key("patternProperties");
        if free
            && guarantee == Guarantee::Complete
            && out.get("minProperties").and_then(Value::as_u64).is_some_and(|least| least > named + 1)
        {
            return Err(format!("'{path}/minProperties' cannot be guaranteed where further properties have no names"));
        }
        let constrains = !out.is_empty();
        if !constrains {
            let Value::Object(any) = any_reference(ANY_DEPTH) else { return Err("no reference".into()) };
            out.extend(any);
        }
        Ok(Value::Object(out))
    }
}

/// Moves an exclusive bound that is a whole number inwards where the other bound has the same integer part: there llguidance lets the bound
/// itself through.
fn narrow_exclusive_bounds(schema: &mut Map<String, Value>) {
    /// By how much, at least, and relative to the bound.
    const LEAST: f64 = 1e-6;
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let moved = |from: f64, towards: f64| {
        let step = LEAST.max(from.abs() * 1e-9).min((towards - from).abs() / 2.0);
        from + step.copysign(towards - from)
    };
    let lower = number("exclusiveMinimum").zip(number("maximum").or(number("exclusiveMaximum")));
    let upper = number("exclusiveMaximum").zip(number("minimum").or(number("exclusiveMinimum")));
    let near = |(bound, other): &(f64, f64)| bound.fract() == 0.0 && (other - bound).abs() < 1.0 && other != bound;
    for (bounds, exclusive, inclusive) in [(lower, "exclusiveMinimum", "minimum"), (upper, "exclusiveMaximum", "maximum")] {
        if let Some((bound, other)) = bounds.filter(near) {
            schema.remove(exclusive);
            // The other inclusive bound of the same side, if there is one, may be the narrower one.
            let inward = moved(bound, other);
            let both = schema.get(inclusive).and_then(Value::as_f64);
            let narrower = both.map_or(inward, |both| if inclusive == "minimum" { both.max(inward) } else { both.min(inward) });
            schema.insert(inclusive.into(), narrower.into());
        }
    }
}

/// Whether llguidance can write the texts inside a literal. Without \u escapes it leaves control characters out (but writes them in keys), or
/// finds no way on.
fn is_writable(literal: &Value) -> bool {
    match literal {
        Value::String(text) => !text.chars().any(pattern::is_unwritable),
        Value::Array(items) => items.iter().all(is_writable),
        Value::Object(fields) => fields.values().all(is_writable),
        _ => true,
    }
}

/// Adds bounds to numbers, objects and arrays that have none. With `keep_open`, objects and arrays stay as they are.
fn narrow(schema: &mut Map<String, Value>, keep_open: bool) {
    let literal = schema.contains_key("const") || schema.contains_key("enum");
    let has_type = |name: &str| match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    let integer = has_type("integer");
    // Values of any type, unless what is combined with it says more.
    let any = !["type", "$ref", "anyOf", "oneOf", "allOf"].iter().any(|key| schema.contains_key(*key));
    let (number, object, array) = (has_type("number") || integer || any, has_type("object") || any, has_type("array") || any);
    if number && !literal {
        if !integer {
            narrow_exclusive_bounds(schema);
        }
        if !schema.contains_key("minimum") && !schema.contains_key("exclusiveMinimum") {
            schema.insert("minimum".into(), (-MAX_SAFE_INTEGER).into());
        }
        if !schema.contains_key("maximum") && !schema.contains_key("exclusiveMaximum") {
            schema.insert("maximum".into(), MAX_SAFE_INTEGER.into());
        }
    }
    if literal || keep_open {
        return;
    }
    if (object || schema.contains_key("properties")) && !schema.contains_key("additionalProperties") {
        let names_its_properties = schema.get("properties").and_then(Value::as_object).is_some_and(|named| {
            let known = |name: &Value| name.as_str().is_some_and(|name| named.contains_key(name));
            let required = schema.get("required").and_then(Value::as_array).is_none_or(|required| required.iter().all(known));
            let enough = schema.get("minProperties").and_then(Value::as_u64).is_none_or(|least| least <= named.len() as u64);
            required && enough
        });
        let further = if names_its_properties { Value::Bool(false) } else { any_reference(ANY_DEPTH - 1) };
        schema.insert("additionalProperties".into(), further);
    }
    if array && !schema.contains_key("items") && !schema.contains_key("additionalItems") {
        let further = if schema.contains_key("prefixItems") && !schema.contains_key("minItems") {
            Value::Bool(false)
        } else {
            any_reference(ANY_DEPTH - 1)
        };
        schema.insert("items".into(), further);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(schema: &Value) -> Result<Value, String> {
        super::prepare(schema, Guarantee::Complete)
    }

    #[test]
    fn annotations_are_dropped_and_unsupported_constraints_are_errors() {
        let prepared =
            prepare(&json!({"type": "string", "title": "T", "x-order": 1, "format": "color", "deprecated": true})).expect("valid");
        assert_eq!(prepared["type"], "string");
        for key in ["title", "x-order", "format", "deprecated"] {
            assert!(prepared.get(key).is_none(), "{key}");
        }
        let error = prepare(&json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}})).expect_err("not");
        assert_eq!(error, "'#/properties/a/not' cannot be guaranteed");
        assert!(prepare(&json!({"type": "array", "uniqueItems": true})).is_err());
        assert!(prepare(&json!({"type": "array", "uniqueItems": false})).is_ok());
        assert!(prepare(&json!("string")).is_err());
        assert!(prepare(&json!({"type": "array", "prefixItems": [{"type": "null"}], "items": [{}]})).is_err(), "two lists of items");
    }

    #[test]
    fn open_schemas_are_narrowed() {
        let prepared = prepare(&json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}})).expect("valid");
        assert_eq!(prepared["additionalProperties"], false);
        assert_eq!(prepared["properties"]["n"], json!({"type": "integer", "minimum": 3, "maximum": MAX_SAFE_INTEGER}));
        let combined = prepare(&json!({"allOf": [{"type": "object", "properties": {"a": {}}}, {"properties": {"b": {}}}]})).expect("valid");
        assert!(combined["allOf"][0].get("additionalProperties").is_none());
    }

    #[test]
    fn values_of_any_type_are_narrowed_too() {
        let prepared = prepare(&json!({"format": "ipv6"})).expect("valid");
        assert_eq!(prepared["maximum"], MAX_SAFE_INTEGER);
        assert_eq!(prepared["items"], any_reference(ANY_DEPTH - 1));
        assert_eq!(prepared["additionalProperties"], any_reference(ANY_DEPTH - 1));
    }

    /// llguidance left them out of the value, or found no way on.
    #[test]
    fn control_characters_in_literals_cannot_be_guaranteed() {
        for literal in [json!("a\0b"), json!("\u{7f}"), json!([{"a": "\u{1}"}])] {
            assert!(prepare(&json!({"const": literal})).is_err(), "{literal}");
            assert!(prepare(&json!({"enum": [literal]})).is_err(), "{literal}");
            assert_eq!(prepare(&json!({"enum": [literal, "a\n"]})).expect("one is left")["enum"], json!(["a\n"]));
        }
        assert!(prepare(&json!({"const": {"a\0b": 1}})).is_ok(), "keys can be written");
        assert!(super::prepare(&json!({"const": "\0"}), Guarantee::BestEffort).is_ok());
    }

    #[test]
    fn reference_cycles_are_an_error() {
        let of = |a: Value, b: Value| prepare(&json!({"$ref": "#/$defs/a", "$defs": {"a": a, "b": b}}));
        let to = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
        assert!(of(to("b"), to("a")).is_err());
        assert!(of(json!({"anyOf": [{"type": "string"}, to("a")]}), json!({})).is_err());
        assert!(prepare(&json!({"$ref": "#"})).is_err());
        assert!(of(json!({"properties": {"next": to("a")}}), json!({})).is_ok(), "into a value");
        assert!(of(to("b"), json!({"type": "string"})).is_ok());
    }

    #[test]
    fn patterns_that_cannot_be_written_are_an_error_or_left_out() {
        let schema = json!({"type": "string", "pattern": "^a\\x01b$"});
        let reason = super::prepare(&schema, Guarantee::Complete).expect_err("not guaranteed");
        assert_eq!(reason, "'#/pattern' cannot be guaranteed, because of a control character");
        let prepared = super::prepare(&schema, Guarantee::BestEffort).expect("prepared");
        assert!(prepared.get("pattern").is_none(), "{prepared}");
        let keys = json!({"type": "object", "patternProperties": {"^\\x7f$": {"type": "null"}, "^a$": {"type": "null"}}});
        let prepared = super::prepare(&keys, Guarantee::Complete).expect("prepared");
        assert_eq!(prepared["patternProperties"].as_object().map(Map::len), Some(1), "{prepared}");
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let mut schema = json!({"type": "string"});
        for _ in 0..100 {
            schema = json!({"type": "array", "items": schema});
        }
        assert!(prepare(&schema).is_err());
    }
}
