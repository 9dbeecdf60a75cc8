//! Random bytes for the crates that ask `getrandom` for them, with 64-bit memory: its own connection to JavaScript knows 32 bits only.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues, catch)]
    fn fill(bytes: &Uint8Array) -> Result<JsValue, JsValue>;
}

/// The most bytes that `crypto.getRandomValues` gives at once.
const PIECE: usize = 65_536;

/// What getrandom calls where the build sets its backend to "custom".
///
/// # Safety
///
/// `target` is valid for writes of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(target: *mut u8, length: usize) -> Result<(), getrandom::Error> {
    let mut done = 0;
    while done < length {
        let piece = (length - done).min(PIECE);
        let bytes = Uint8Array::new_with_length(piece as u32);
        fill(&bytes).map_err(|_| getrandom::Error::UNEXPECTED)?;
        let bytes = bytes.to_vec();
        // SAFETY: the caller's bytes from `done` on are at least `piece`, and those of the vector are others.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.add(done), bytes.len().min(piece)) };
        done += piece;
    }
    Ok(())
}
