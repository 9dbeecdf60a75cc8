//! Cloudflare's `env.AI` binding for text generation, computed where the code runs.
//!
//! A request goes one way through the modules, in this order:
//!
//! [`input`] (JSON → request) → [`prompt`] (→ text) → [`tokenizer`] (→ tokens) → [`engine`] (sequences over a
//! [`backend`]) → [`sampling`] (logits → token) → [`output`] (tokens → text, objects, events). [`grammar`] says which
//! tokens may come next, [`tools`] what a call is. [`ai`] puts them together; [`http`] is the same by requests and
//! responses; [`gguf`] and [`model`] bring the weights; [`catalog`] knows the model ids, [`error`] the codes. Only `js`
//! knows JavaScript, so everything else is tested natively.

pub mod ai;
pub mod backend;
pub mod catalog;
pub mod engine;
pub mod error;
pub mod gguf;
pub mod grammar;
mod host;
pub mod http;
pub mod input;
#[cfg(target_arch = "wasm32")]
mod js;
pub mod model;
pub mod output;
pub mod prompt;
pub mod sampling;
pub mod tokenizer;
pub mod tools;
