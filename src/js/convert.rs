//! Conversion of values between Rust and JavaScript.

use crate::error::{AiError, ErrorCode};
use js_sys::{Error, Object, Reflect};
use serde::Serialize;
use wasm_bindgen::prelude::*;

/// A plain JavaScript value, with objects instead of Maps and `null` instead of `undefined`.
pub fn to_js(value: &impl Serialize) -> JsValue {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).unwrap_or(JsValue::NULL)
}

/// An `Error` named `AiError` (`NeedsMoreMemory` if it is none for clients) with `internalCode`, `httpCode`, `description`, and `body` as the binding sends it.
pub fn to_error(error: &AiError) -> JsValue {
    let thrown = Error::new(&error.to_string());
    thrown.set_name(if error.code == ErrorCode::NeedsMoreMemory { "NeedsMoreMemory" } else { "AiError" });
    let fields = Object::from(to_js(&error.wire_body()));
    for key in ["internalCode", "httpCode", "description"] {
        if let Ok(value) = Reflect::get(&fields, &key.into()) {
            let _ = Reflect::set(&thrown, &key.into(), &value);
        }
    }
    let _ = Reflect::set(&thrown, &"body".into(), &fields);
    thrown.into()
}

/// A property of an object; `undefined` if the object does not have it.
pub fn property(object: &JsValue, key: &str) -> JsValue {
    Reflect::get(object, &key.into()).unwrap_or(JsValue::UNDEFINED)
}
