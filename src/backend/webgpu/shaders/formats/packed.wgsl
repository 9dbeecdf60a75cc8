// Common to all quantised formats. A format defines `packed`, which returns a unit's codes, or their indices in a table, as bytes, four to
// a word. `stored_codes.wgsl` and `table_codes.wgsl` make codes of these bytes.

// The codes or indices of a unit, in the order of `Unit`.
struct Packed {
    a: u32,
    b: u32,
    c: u32,
    d: u32,
    e: u32,
    f: u32,
    g: u32,
    h: u32,
    scale: vec2<f32>,
    offset: vec2<f32>,
}

const NIBBLES = 0x0f0f0f0fu;

// The low four bits of a unit's codes, from 16 bytes: the lower nibbles belong to the first run, the upper nibbles to the second.
fn nibbles(low: vec4<u32>, scale: vec2<f32>, offset: vec2<f32>) -> Packed {
    let first = low & vec4<u32>(NIBBLES);
    let second = (low >> vec4<u32>(4u)) & vec4<u32>(NIBBLES);
    return Packed(first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w, scale, offset);
}

// Adds the bits above the low four, as many as `mask` has in each byte. `high` holds those of the first run from bit `first` of every
// byte on, and those of the second run from bit `second` on.
fn with_upper_bits(low: Packed, high: vec4<u32>, first: u32, second: u32, mask: u32) -> Packed {
    let upper = ((high >> vec4<u32>(first)) & vec4<u32>(mask)) << vec4<u32>(4u);
    let after = ((high >> vec4<u32>(second)) & vec4<u32>(mask)) << vec4<u32>(4u);
    var p = low;
    p.a |= upper.x;
    p.b |= upper.y;
    p.c |= upper.z;
    p.d |= upper.w;
    p.e |= after.x;
    p.f |= after.y;
    p.g |= after.z;
    p.h |= after.w;
    return p;
}

const BYTES = vec4<u32>(0u, 8u, 16u, 24u);

fn unpack(unit: u32) -> Unit {
    let p = packed(unit);
    return Unit(
        numbers(p.a),
        numbers(p.b),
        numbers(p.c),
        numbers(p.d),
        numbers(p.e),
        numbers(p.f),
        numbers(p.g),
        numbers(p.h),
        p.scale,
        p.offset,
    );
}
