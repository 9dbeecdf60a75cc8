// Matrix × vector, for few tokens: THREADS threads compute four rows for one token, and a workgroup has GROUPS times so many. Neighbouring
// threads take neighbouring units, so that codes are read in one stream; each thread uses its activations for all four rows.

fn total(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

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
    // Sums over the first run and over the second.
    sums: vec2<f32>,
}

fn times(w: Unit, x: Activations) -> f32 {
    // Four sums side by side, which are added up once.
    let first = total(w.a * x.a + w.b * x.b + w.c * x.c + w.d * x.d);
    let second = total(w.e * x.e + w.f * x.f + w.g * x.g + w.h * x.h);
    return dot(w.scale, vec2<f32>(first, second)) + dot(w.offset, x.sums);
}

@compute @workgroup_size(THREADS * GROUPS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS) {
    SUBGROUP_START
    let token = group.y;
    let lane = index % THREADS;
    let row = (group.x * GROUPS + index / THREADS) * 4u;
    // Beyond the last row it is computed once more, and not written.
    let starts = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(shape.rows - 1u)) * shape.units;
    let base = token * shape.columns;
    var sums = vec4<f32>();
    for (var unit = lane; unit < shape.units; unit += THREADS) {
        let at = columns_of(unit) + vec2<u32>(base);
        var x: Activations;
        x.a = input[at.x];
        x.b = input[at.x + 1u];
        x.c = input[at.x + 2u];
        x.d = input[at.x + 3u];
        x.e = input[at.y];
        x.f = input[at.y + 1u];
        x.g = input[at.y + 2u];
        x.h = input[at.y + 3u];
        x.sums = vec2<f32>(total(x.a + x.b + x.c + x.d), total(x.e + x.f + x.g + x.h));
        sums += vec4<f32>(
            times(unpack(starts.x + unit), x),
            times(unpack(starts.y + unit), x),
            times(unpack(starts.z + unit), x),
            times(unpack(starts.w + unit), x),
        );
    }
    let result = reduce(sums, lane);
    for (var i = lane; i < 4u; i += THREADS) {
        if row + i < shape.rows {
            finish(row + i, token, result[i]);
        }
    }
}
