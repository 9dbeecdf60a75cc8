//! Properties of every parser, for random inputs: one module for each parser, with its inputs and what holds for all of them.
//!
//! In the gate each property tries a few hundred or thousand inputs, the same each time. By hand, and in `npm run fuzz`, the environment says how
//! many: see [`trial`].

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod call_reader;
mod characters;
mod files;
mod gguf;
mod gguf_file;
mod http;
mod inputs;
mod memory;
mod requests;
mod schemas;
mod stops;
mod templates;
mod trial;

#[path = "../common/mod.rs"]
mod common;
