// Common to all formats. A *unit* is 32 weights of a row: two runs of 16 columns that are stored together in the file.
// Every weight is `scale · code + offset`. A format defines `columns_of` (where a unit's runs begin, in groups of four columns) and
// `unpack`. A format whose codes have 8 bits or fewer defines `packed` instead of `unpack` (`packed.wgsl`). `prepare` is called before both
// (`table.wgsl`, `no_table.wgsl`).

// Separate fields instead of arrays and loops, because not every compiler keeps an array in registers that is indexed by a variable.
struct Unit {
    // The first run's codes.
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    // The second run's codes.
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
    // Scale and offset of the first run and of the second run.
    scale: vec2<f32>,
    offset: vec2<f32>,
}

// The two f16 numbers in a word. (`shader-f16` is no use here: its numbers could only be read from a buffer of f16.)
fn halves(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

// The f16 number at `index` in the plane that begins at word `plane`.
fn half_at(plane: u32, index: u32) -> f32 {
    let pair = halves(words[plane + index / 2u]);
    return select(pair.x, pair.y, (index & 1u) == 1u);
}
