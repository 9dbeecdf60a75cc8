//! Whether a value matches a JSON Schema: for calls that the model was free to write, where a mask did not enforce every keyword.

use serde_json::{Map, Value};

/// Maximum nesting, references followed. A value below that is not checked.
const MAX_DEPTH: usize = 64;

/// Whether `value` matches `schema` (JSON Schema 2020-12, and the keywords of older drafts that have the same meaning). `pattern` and `format` count
/// as annotations; so do references to other documents.
pub fn fits(schema: &Value, value: &Value) -> bool {
    Check { root: schema }.fits(schema, value, 0)
}

struct Check<'a> {
    root: &'a Value,
}

impl Check<'_> {
    fn fits(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        let Value::Object(schema) = schema else { return schema != &Value::Bool(false) };
        if depth > MAX_DEPTH {
            return true;
        }
        let part = |part: &Value| self.fits(part, value, depth + 1);
        let list = |key: &str| schema.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let has = |key: &str| schema.contains_key(key);
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| super::schema::target_of(self.root, reference));
        reference.is_none_or(part)
            && list("allOf").iter().all(part)
            && (!has("anyOf") || list("anyOf").iter().any(part))
            && (!has("oneOf") || list("oneOf").iter().filter(|one| part(one)).count() == 1)
            && schema.get("not").is_none_or(|not| !part(not))
            && schema.get("if").is_none_or(|condition| schema.get(if part(condition) { "then" } else { "else" }).is_none_or(part))
            && schema.get("const").is_none_or(|wanted| equal(wanted, value))
            && (!has("enum") || list("enum").iter().any(|member| equal(member, value)))
            && schema.get("type").is_none_or(|types| has_type(types, value))
            && match value {
                Value::Object(fields) => self.fits_object(schema, fields, depth),
                Value::Array(items) => self.fits_array(schema, items, depth),
                Value::String(text) => in_range(schema, "minLength", "maxLength", text.chars().count()),
                Value::Number(_) => fits_number(schema, value.as_f64().unwrap_or_default()),
                _ => true,
            }
    }

    fn fits_object(&self, schema: &Map<String, Value>, fields: &Map<String, Value>, depth: usize) -> bool {
        let properties = schema.get("properties").and_then(Value::as_object);
        let named = |key: &str| properties.and_then(|properties| properties.get(key));
        let requires = |key: &str, names: &Value| {
            !fields.contains_key(key)
                || names.as_array().is_none_or(|names| names.iter().all(|name| name.as_str().is_none_or(|name| fields.contains_key(name))))
        };
        let object = |key: &str| schema.get(key).and_then(Value::as_object);
        // Without regular expressions it is not known which properties are additional.
        let further = schema.get("additionalProperties").filter(|_| !schema.contains_key("patternProperties"));
        let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        required.iter().all(|name| name.as_str().is_none_or(|name| fields.contains_key(name)))
            && in_range(schema, "minProperties", "maxProperties", fields.len())
            && fields.iter().all(|(key, value)| named(key).or(further).is_none_or(|schema| self.fits(schema, value, depth + 1)))
            && schema
                .get("propertyNames")
                .is_none_or(|names| fields.keys().all(|key| self.fits(names, &Value::String(key.clone()), depth + 1)))
            && object("dependentRequired").is_none_or(|all| all.iter().all(|(key, names)| requires(key, names)))
            && object("dependentSchemas").is_none_or(|all| {
                let whole = Value::Object(fields.clone());
                all.iter().all(|(key, schema)| !fields.contains_key(key) || self.fits(schema, &whole, depth + 1))
            })
    }

    fn fits_array(&self, schema: &Map<String, Value>, items: &[Value], depth: usize) -> bool {
        let tuple =
            schema.get("prefixItems").or_else(|| schema.get("items")).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        // `additionalItems` has a meaning only behind a list of items.
        let rest = schema.get(if schema.get("items").is_some_and(Value::is_array) { "additionalItems" } else { "items" });
        let contained = schema.get("contains").map(|schema| items.iter().filter(|item| self.fits(schema, item, depth + 1)).count());
        let least = schema.get("minContains").and_then(Value::as_u64).unwrap_or(1) as usize;
        let most = schema.get("maxContains").and_then(Value::as_u64).map_or(usize::MAX, |most| most as usize);
        in_range(schema, "minItems", "maxItems", items.len())
            && items
                .iter()
                .enumerate()
                .all(|(index, item)| tuple.get(index).or(rest).is_none_or(|schema| self.fits(schema, item, depth + 1)))
            && contained.is_none_or(|count| (least..=most).contains(&count))
            && (schema.get("uniqueItems") != Some(&Value::Bool(true))
                || items.iter().enumerate().all(|(index, item)| !items.iter().take(index).any(|before| equal(before, item))))
    }
}

fn in_range(schema: &Map<String, Value>, least: &str, most: &str, count: usize) -> bool {
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    limit(least).is_none_or(|least| count as f64 >= least) && limit(most).is_none_or(|most| count as f64 <= most)
}

fn fits_number(schema: &Map<String, Value>, number: f64) -> bool {
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    limit("minimum").is_none_or(|least| number >= least)
        && limit("maximum").is_none_or(|most| number <= most)
        && limit("exclusiveMinimum").is_none_or(|least| number > least)
        && limit("exclusiveMaximum").is_none_or(|most| number < most)
        && limit("multipleOf").filter(|unit| *unit > 0.0).is_none_or(|unit| {
            let times = number / unit;
            // A quotient is as precise as its size allows.
            (times - times.round()).abs() < f64::max(1e-9, times.abs() * 1e-15)
        })
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    types.as_array().map_or_else(|| is(types), |types| types.iter().any(is))
}

/// Equality of JSON values: `1` and `1.0` are the same number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b))),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keywords_that_no_mask_enforces() {
        for (schema, good, bad) in [
            (json!({"not": {"type": "string"}}), json!(1), json!("a")),
            (json!({"type": "array", "uniqueItems": true}), json!([1, "1", [1]]), json!([1, 2, 1.0])),
            (json!({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 3}}), json!("ab"), json!(2)),
            (json!({"propertyNames": {"enum": ["a", "b"]}}), json!({"a": 1}), json!({"c": 1})),
            (json!({"dependentRequired": {"a": ["b"]}}), json!({"b": 1}), json!({"a": 1})),
            (json!({"contains": {"type": "null"}, "maxContains": 1}), json!([1, null]), json!([null, null])),
            (json!({"oneOf": [{"type": "integer"}, {"minimum": 3}]}), json!(2), json!(4)),
            (json!({"properties": {"a": {"$ref": "#/$defs/x~1y"}}, "$defs": {"x/y": {"const": 1}}}), json!({"a": 1}), json!({"a": 2})),
            (json!({"properties": {"a": false}}), json!({"b": 1}), json!({"a": 1})),
            (json!({"items": [{"type": "null"}], "additionalItems": false}), json!([null]), json!([null, 1])),
            (json!({"multipleOf": 1e-7}), json!(-768_072.588_48), json!(0.937_000_05)),
            (json!({"additionalItems": false, "maxItems": 1}), json!([1]), json!([1, 2])),
        ] {
            assert!(fits(&schema, &good), "{schema} {good}");
            assert!(!fits(&schema, &bad), "{schema} {bad}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        assert!(fits(&json!({"$ref": "#"}), &json!(1)));
    }
}
