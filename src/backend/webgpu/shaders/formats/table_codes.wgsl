// The codes of formats with a table (`table.wgsl`).

fn indices(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> BYTES) & vec4<u32>(15u);
}

// The codes of a word's four indices as numbers.
fn numbers(word: u32) -> vec4<f32> {
    let i = indices(word);
    return vec4<f32>(vec4<i32>(table[i.x], table[i.y], table[i.z], table[i.w]));
}

// The codes of a word's four indices as bytes. Each one overwrites the sign bits of the one before.
fn code_bytes(word: u32) -> u32 {
    let i = indices(word);
    let two = insertBits(table[i.x], table[i.y], 8u, 8u);
    return bitcast<u32>(insertBits(insertBits(two, table[i.z], 16u, 8u), table[i.w], 24u, 8u));
}
