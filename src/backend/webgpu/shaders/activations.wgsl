// Activations as f32, for `matvec.wgsl`.

// The activations of a unit's columns.
struct Activations {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
    // Sums over the first run and over the second run.
    sums: vec2<f32>,
}

// Loads a unit's activations. `at`: where its two runs begin, from the first staged column on.
fn activations(at: vec2<u32>) -> Activations {
    var x: Activations;
    x.a = activation(at.x);
    x.b = activation(at.x + 1u);
    x.c = activation(at.x + 2u);
    x.d = activation(at.x + 3u);
    x.e = activation(at.y);
    x.f = activation(at.y + 1u);
    x.g = activation(at.y + 2u);
    x.h = activation(at.y + 3u);
    x.sums = vec2<f32>(total(x.a + x.b + x.c + x.d), total(x.e + x.f + x.g + x.h));
    return x;
}

// The dot product of a unit of weights and its activations.
fn times(unit: u32, x: Activations) -> f32 {
    let w = unpack(unit);
    // Four sums in the lanes of a vector, added up once at the end.
    let first = total(w.a * x.a + w.b * x.b + w.c * x.c + w.d * x.d);
    let second = total(w.e * x.e + w.f * x.f + w.g * x.g + w.h * x.h);
    return dot(w.scale, vec2<f32>(first, second)) + dot(w.offset, x.sums);
}
