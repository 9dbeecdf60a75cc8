// Quantised formats whose bytes, as `packed` returns them, are codes.

// The four codes of a word as numbers.
fn numbers(word: u32) -> vec4<f32> {
    if SIGNED {
        return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
    }
    return vec4<f32>((vec4<u32>(word) >> BYTES) & vec4<u32>(255u));
}

// The four codes of a word as bytes.
fn code_bytes(word: u32) -> u32 {
    return word;
}
