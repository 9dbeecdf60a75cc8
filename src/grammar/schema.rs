//! JSON Schema → the part of it that the token mask can guarantee.
//!
//! Keywords that only annotate are dropped, keywords that constrain but cannot be guaranteed are an error. What is left
//! is narrowed where a schema allows more than anyone wants from a small model: numbers stay within what JavaScript holds
//! exactly, values of any kind nest a few levels deep, and objects have the properties that are named and no others. So
//! every result still fits the schema that was asked for.

use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Largest integer that JavaScript's numbers hold exactly, 2⁵³ − 1.
const MAX_SAFE_INTEGER: i64 = 9_007_199_254_740_991;

/// Levels of arrays and objects inside a value of any kind.
const ANY_DEPTH: usize = 5;

/// Levels of subschemas. Deeper ones would cost more stack than WebAssembly has.
const MAX_DEPTH: usize = 64;

/// Keywords that hold one subschema.
const ONE: &[&str] = &["items", "additionalItems", "additionalProperties"];
/// Keywords that hold a list of subschemas. (`items` does in older drafts.)
const LIST: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords that hold subschemas by name.
const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];
/// Further keywords that are kept as they are.
const PLAIN: &[&str] = &[
    "$ref",
    "const",
    "enum",
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
    "$schema",
    "$id",
    "$anchor",
];
/// Keywords that constrain in ways that a mask over tokens cannot follow.
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
/// Formats that are guaranteed; others annotate.
const FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// The schema of any JSON object.
pub fn any_object() -> Value {
    prepare(&json!({"type": "object"})).unwrap_or_else(|_| json!({"type": "object", "additionalProperties": false}))
}

/// Prepares a schema for compilation; the error names the keyword and where it stands.
pub fn prepare(schema: &Value) -> Result<Value, String> {
    References { root: schema, path: Vec::new(), sound: HashSet::new() }.check(schema, 0)?;
    let open = {
        // Where schemas are combined, closing one part would forbid what another part adds.
        let text = schema.to_string();
        text.contains("\"allOf\"") || combines(schema)
    };
    let mut prepared = prepare_at(schema, "#", open, 0)?;
    if !prepared.is_object() {
        prepared = json!({"allOf": [prepared]});
    }
    if let Value::Object(root) = &mut prepared {
        if !root.get("$defs").is_none_or(Value::is_object) {
            return Err("'#/$defs' must be an object".into());
        }
        let definitions = root.entry("$defs").or_insert_with(|| json!({}));
        for depth in 0..=ANY_DEPTH {
            definitions[any_name(depth)] = any_value(depth);
        }
        // One line, a space at most behind commas and colons: nothing that a model could go on writing for ever.
        // No \u escapes: with them a key could be spelled so that it is not recognised as one that has a schema of its own.
        let escapes = "nrbtf\\\"";
        let layout =
            json!({"whitespace_flexible": false, "item_separator": ", ?", "key_separator": ": ?", "json_allowed_escapes": escapes});
        root.insert("x-guidance".into(), layout);
    }
    Ok(prepared)
}

/// Finds references that come back to where they started without going into a value: no value fits those, or none is defined
/// to (JSON Schema 2020-12, core, 9.4.1).
struct References<'a> {
    root: &'a Value,
    /// The schemas that the one being looked at is a part of, all for the same value.
    path: Vec<&'a Value>,
    /// Schemas without such a circle, by address.
    sound: HashSet<*const Value>,
}

impl<'a> References<'a> {
    /// Checks every schema in `schema`.
    fn check(&mut self, schema: &'a Value, depth: usize) -> Result<(), String> {
        // Deeper ones are an error anyway.
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

    /// Follows what a schema says about the same value elsewhere.
    fn follow(&mut self, schema: &'a Value) -> Result<(), String> {
        let Value::Object(fields) = schema else { return Ok(()) };
        let address: *const Value = schema;
        if self.sound.contains(&address) {
            return Ok(());
        }
        if self.path.iter().any(|outer| std::ptr::eq(*outer, schema)) || self.path.len() > MAX_DEPTH {
            return Err("a '$ref' leads back to itself".into());
        }
        self.path.push(schema);
        let target = fields.get("$ref").and_then(Value::as_str).and_then(|reference| self.root.pointer(reference.strip_prefix('#')?));
        let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| fields.get(*key)?.as_array()).flatten();
        for same in target.into_iter().chain(parts) {
            self.follow(same)?;
        }
        self.path.pop();
        self.sound.insert(address);
        Ok(())
    }
}

fn any_name(depth: usize) -> String {
    format!("any-value-{depth}")
}

fn any_reference(depth: usize) -> Value {
    json!({"$ref": format!("#/$defs/{}", any_name(depth))})
}

/// Any value with at most `depth` levels of arrays and objects.
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

/// Whether some object of the schema stands beside a reference or alternatives that may add to it.
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

fn prepare_at(schema: &Value, path: &str, open: bool, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("it nests deeper than {MAX_DEPTH} levels"));
    }
    let fields = match schema {
        Value::Bool(true) => return Ok(any_reference(ANY_DEPTH)),
        Value::Bool(false) => return Ok(Value::Bool(false)),
        Value::Object(fields) => fields,
        _ => return Err(format!("'{path}' must be an object or a boolean")),
    };
    let below = |key: &str, value: &Value| prepare_at(value, &format!("{path}/{key}"), open, depth + 1);
    let mut out = Map::new();
    for (key, value) in fields {
        let key = key.as_str();
        if UNSUPPORTED.contains(&key) {
            let harmless = match key {
                "uniqueItems" => value == &Value::Bool(false),
                "propertyNames" => value == &Value::Bool(true) || value == &json!({"type": "string"}) || value == &json!({}),
                "unevaluatedProperties" | "unevaluatedItems" => value == &Value::Bool(true) || value == &json!({}),
                "then" | "else" => !fields.contains_key("if"),
                _ => false,
            };
            if !harmless {
                return Err(format!("'{path}/{key}' cannot be guaranteed"));
            }
        } else if let (true, Value::Array(list)) = (LIST.contains(&key), value) {
            let list: Result<Vec<Value>, String> =
                list.iter().enumerate().map(|(index, value)| below(&format!("{key}/{index}"), value)).collect();
            out.insert(key.into(), Value::Array(list?));
        } else if ONE.contains(&key) {
            out.insert(key.into(), below(key, value)?);
        } else if NAMED.contains(&key) {
            let Value::Object(named) = value else { return Err(format!("'{path}/{key}' must be an object")) };
            let named: Result<Map<String, Value>, String> =
                named.iter().map(|(name, value)| Ok((name.clone(), below(&format!("{key}/{name}"), value)?))).collect();
            out.insert(key.into(), Value::Object(named?));
        } else if key == "format" && !value.as_str().is_some_and(|format| FORMATS.contains(&format)) {
            // An annotation.
        } else if PLAIN.contains(&key) || LIST.contains(&key) {
            out.insert(key.into(), value.clone());
        }
    }
    narrow(&mut out, open);
    // Keys that are not named could be the same key twice, which counts once.
    let named = out.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let free = out.get("additionalProperties") != Some(&Value::Bool(false)) || out.contains_key("patternProperties");
    if free && out.get("minProperties").and_then(Value::as_u64).is_some_and(|least| least > named + 1) {
        return Err(format!("'{path}/minProperties' cannot be guaranteed where further properties have no names"));
    }
    let constrains = out.keys().any(|key| !matches!(key.as_str(), "$schema" | "$id" | "$anchor" | "$defs" | "definitions"));
    if !constrains {
        let Value::Object(any) = any_reference(ANY_DEPTH) else { return Err("no reference".into()) };
        out.extend(any);
    }
    Ok(Value::Object(out))
}

/// Bounds what a schema leaves open.
fn narrow(schema: &mut Map<String, Value>, open: bool) {
    let literal = schema.contains_key("const") || schema.contains_key("enum");
    let has_type = |name: &str| match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    let (number, object, array) = (has_type("number") || has_type("integer"), has_type("object"), has_type("array"));
    if number && !literal {
        if !schema.contains_key("minimum") && !schema.contains_key("exclusiveMinimum") {
            schema.insert("minimum".into(), (-MAX_SAFE_INTEGER).into());
        }
        if !schema.contains_key("maximum") && !schema.contains_key("exclusiveMaximum") {
            schema.insert("maximum".into(), MAX_SAFE_INTEGER.into());
        }
    }
    if literal || open {
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

    #[test]
    fn annotations_go_and_constraints_that_cannot_be_kept_are_errors() {
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
    }

    #[test]
    fn what_is_open_is_narrowed() {
        let prepared = prepare(&json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}})).expect("valid");
        assert_eq!(prepared["additionalProperties"], false);
        assert_eq!(prepared["properties"]["n"], json!({"type": "integer", "minimum": 3, "maximum": MAX_SAFE_INTEGER}));
        let combined = prepare(&json!({"allOf": [{"type": "object", "properties": {"a": {}}}, {"properties": {"b": {}}}]})).expect("valid");
        assert!(combined["allOf"][0].get("additionalProperties").is_none());
    }

    #[test]
    fn references_in_a_circle_are_an_error() {
        let of = |a: Value, b: Value| prepare(&json!({"$ref": "#/$defs/a", "$defs": {"a": a, "b": b}}));
        let to = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
        assert!(of(to("b"), to("a")).is_err());
        assert!(of(json!({"anyOf": [{"type": "string"}, to("a")]}), json!({})).is_err());
        assert!(prepare(&json!({"$ref": "#"})).is_err());
        assert!(of(json!({"properties": {"next": to("a")}}), json!({})).is_ok(), "into a value");
        assert!(of(to("b"), json!({"type": "string"})).is_ok());
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
