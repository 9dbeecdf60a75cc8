//! Values across the edge.

use crate::error::AiError;
use js_sys::{Error, Object, Reflect};
use serde::Serialize;
use wasm_bindgen::prelude::*;

/// A plain JavaScript value: objects, not Maps; `null`, not `undefined`.
pub fn to_js(value: &impl Serialize) -> JsValue {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).unwrap_or(JsValue::NULL)
}

/// An `Error` named `AiError` with `internalCode`, `httpCode`, `description` and the wire's `body`.
pub fn to_error(error: &AiError) -> JsValue {
    let thrown = Error::new(&error.to_string());
    thrown.set_name("AiError");
    let fields = Object::from(to_js(&error.wire_body()));
    for key in ["internalCode", "httpCode", "description"] {
        if let Ok(value) = Reflect::get(&fields, &key.into()) {
            let _ = Reflect::set(&thrown, &key.into(), &value);
        }
    }
    let _ = Reflect::set(&thrown, &"body".into(), &fields);
    thrown.into()
}

/// A property, `undefined` where the object has none.
pub fn property(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED)
}
