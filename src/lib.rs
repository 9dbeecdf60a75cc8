//! Cloudflare's `env.AI` binding for text generation, computed locally.
//!
//! A request passes through the modules in this order:
//!
//! [`input`] (JSON → request) → [`prompt`] (request → text) → [`tokenizer`] (text → tokens) → [`engine`] (schedules
//! sequences on a [`backend`]) → [`sampling`] (logits → token) → [`output`] (tokens → text, objects, events).
//!
//! [`grammar`] restricts which tokens may come next, [`tools`] defines tools and calls. [`ai`] connects the modules;
//! [`http`] serves them over HTTP requests and responses. [`gguf`] and [`model`] load the weights, [`lora`] the adapters beside
//! them; [`catalog`] has the model ids, [`error`] the error codes. Only `js` depends on JavaScript, so everything else is tested natively.

pub mod ai;
pub mod backend;
pub mod catalog;
pub mod catalog_embeddings;
pub mod engine;
pub mod error;
pub mod gguf;
pub mod grammar;
mod host;
pub mod http;
pub mod input;
#[cfg(target_family = "wasm")]
mod js;
mod listing;
pub mod lora;
pub mod model;
pub mod output;
mod panics;
pub mod prompt;
pub mod sampling;
pub mod tokenizer;
pub mod tools;
