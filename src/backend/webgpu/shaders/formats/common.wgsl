// What the formats have in common. A *unit* is 32 weights of a row: two runs of 16 columns that stand together in the file.
// Every weight is `scale · code + offset`. A format gives `columns_of` (where a unit's runs begin, counted in groups of four
// columns) and `unpack`.

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

const BYTES = vec4<u32>(0u, 8u, 16u, 24u);

fn low_nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> BYTES) & vec4<u32>(15u));
}

fn high_nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> (BYTES + vec4<u32>(4u))) & vec4<u32>(15u));
}

// Four neighbouring bits, each as the fifth bit of a code.
fn fifth_bits(word: u32, first: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word >> first) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) * 16.0;
}

// `count` bits (as a mask) of every byte from bit `first` on, above the lower four of a code.
fn upper_bits(word: u32, first: u32, mask: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(word) >> (BYTES + vec4<u32>(first))) & vec4<u32>(mask)) * 16.0;
}

fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>((vec4<i32>(bitcast<i32>(word)) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
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
