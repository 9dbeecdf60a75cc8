// Activations as integers, for `matvec.wgsl` with packed dot products: one instruction multiplies and adds four byte codes.
//
// The activations of a unit share a scale and have 15 bits, stored in an upper and a lower byte. 8 bits would cost accuracy.

// The activations of a unit's columns: `scale · (128 · upper + lower)`.
struct Activations {
    upper_a: u32,
    upper_b: u32,
    upper_c: u32,
    upper_d: u32,
    upper_e: u32,
    upper_f: u32,
    upper_g: u32,
    upper_h: u32,
    lower_a: u32,
    lower_b: u32,
    lower_c: u32,
    lower_d: u32,
    lower_e: u32,
    lower_f: u32,
    lower_g: u32,
    lower_h: u32,
    scale: f32,
    // Sums over the first run and over the second run.
    sums: vec2<f32>,
}

// 127 · 128, so that the upper byte fits.
const LARGEST = 16256.0;

// The upper and the lower bytes of four numbers of up to ±LARGEST.
fn bytes_of(x: vec4<f32>) -> vec2<u32> {
    let whole = vec4<i32>(round(x));
    let lower = ((whole + vec4<i32>(64)) & vec4<i32>(127)) - vec4<i32>(64);
    let upper = (whole - lower) >> vec4<u32>(7u);
    return vec2<u32>(pack4xI8(upper), pack4xI8(lower));
}

// Loads and quantises a unit's activations. `at`: where its two runs begin, from the first staged column on.
fn activations(at: vec2<u32>) -> Activations {
    let a = activation(at.x);
    let b = activation(at.x + 1u);
    let c = activation(at.x + 2u);
    let d = activation(at.x + 3u);
    let e = activation(at.y);
    let f = activation(at.y + 1u);
    let g = activation(at.y + 2u);
    let h = activation(at.y + 3u);
    let larger = max(max(max(abs(a), abs(b)), max(abs(c), abs(d))), max(max(abs(e), abs(f)), max(abs(g), abs(h))));
    let largest = max(max(larger.x, larger.y), max(larger.z, larger.w));
    // Activations so small that the inverse would be infinite are treated as 0.
    let inverse = select(0.0, LARGEST / largest, largest > 1e-30);
    let of_a = bytes_of(a * inverse);
    let of_b = bytes_of(b * inverse);
    let of_c = bytes_of(c * inverse);
    let of_d = bytes_of(d * inverse);
    let of_e = bytes_of(e * inverse);
    let of_f = bytes_of(f * inverse);
    let of_g = bytes_of(g * inverse);
    let of_h = bytes_of(h * inverse);
    let sums = vec2<f32>(total(a + b + c + d), total(e + f + g + h));
    return Activations(
        of_a.x, of_b.x, of_c.x, of_d.x, of_e.x, of_f.x, of_g.x, of_h.x,
        of_a.y, of_b.y, of_c.y, of_d.y, of_e.y, of_f.y, of_g.y, of_h.y,
        largest / LARGEST,
        sums,
    );
}

// The dot product of a unit of weights and its activations.
fn times(unit: u32, x: Activations) -> f32 {
    let w = packed(unit);
    let a = code_bytes(w.a);
    let b = code_bytes(w.b);
    let c = code_bytes(w.c);
    let d = code_bytes(w.d);
    let e = code_bytes(w.e);
    let f = code_bytes(w.f);
    let g = code_bytes(w.g);
    let h = code_bytes(w.h);
    let upper_first = dot4I8Packed(a, x.upper_a) + dot4I8Packed(b, x.upper_b) + dot4I8Packed(c, x.upper_c) + dot4I8Packed(d, x.upper_d);
    let lower_first = dot4I8Packed(a, x.lower_a) + dot4I8Packed(b, x.lower_b) + dot4I8Packed(c, x.lower_c) + dot4I8Packed(d, x.lower_d);
    let upper_second = dot4I8Packed(e, x.upper_e) + dot4I8Packed(f, x.upper_f) + dot4I8Packed(g, x.upper_g) + dot4I8Packed(h, x.upper_h);
    let lower_second = dot4I8Packed(e, x.lower_e) + dot4I8Packed(f, x.lower_f) + dot4I8Packed(g, x.lower_g) + dot4I8Packed(h, x.lower_h);
    let products = vec2<f32>(f32(upper_first * 128 + lower_first), f32(upper_second * 128 + lower_second));
    return x.scale * dot(w.scale, products) + dot(w.offset, x.sums);
}
