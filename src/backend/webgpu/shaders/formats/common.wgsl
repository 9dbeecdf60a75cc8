// What the formats have in common. A *unit* is 32 weights of a row: two runs of 16 columns that stand together in the file.
// Every weight is `scale · code + offset`. A format gives `columns_of` (where a unit's runs begin, counted in groups of four
// columns) and `unpack`; one whose codes are bytes or less gives `packed` instead (`packed.wgsl`).

// (Fields and no arrays, and no loops over them: what is indexed by a variable, not every compiler keeps in registers.)
struct Unit {
    // The first run's codes.
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    // The second's.
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
    // Of the first run and of the second.
    scale: vec2<f32>,
    offset: vec2<f32>,
}

// Two f16 numbers. (As numbers of `shader-f16` they could only be read out of a buffer of such numbers.)
fn halves(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// The f16 number `index` of a plane that begins at word `plane`.
fn half_at(plane: u32, index: u32) -> f32 {
    let pair = halves(words[plane + index / 2u]);
    return select(pair.x, pair.y, (index & 1u) == 1u);
}
