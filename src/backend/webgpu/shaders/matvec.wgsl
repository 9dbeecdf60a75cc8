// Matrix × vector, for few tokens: a workgroup computes four rows for one token. Neighbouring threads take neighbouring units, so that
// codes are read in one stream; each thread uses its activations for all four rows.

fn total(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

fn times(unit: Unit, x: array<vec4<f32>, 4>, y: array<vec4<f32>, 4>, sums: vec2<f32>) -> f32 {
    let first = dot(unit.first[0], x[0]) + dot(unit.first[1], x[1]) + dot(unit.first[2], x[2]) + dot(unit.first[3], x[3]);
    let second = dot(unit.second[0], y[0]) + dot(unit.second[1], y[1]) + dot(unit.second[2], y[2]) + dot(unit.second[3], y[3]);
    return dot(unit.scale, vec2<f32>(first, second)) + dot(unit.offset, sums);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32 SUBGROUP_INPUTS) {
    SUBGROUP_START
    let token = group.y;
    let row = group.x * 4u;
    // Beyond the last row it is computed once more, and not written.
    let starts = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(shape.rows - 1u)) * shape.units;
    let base = token * shape.columns;
    var sums = vec4<f32>();
    for (var unit = lane; unit < shape.units; unit += THREADS) {
        let at = columns_of(unit) + vec2<u32>(base);
        let x = array<vec4<f32>, 4>(input[at.x], input[at.x + 1u], input[at.x + 2u], input[at.x + 3u]);
        let y = array<vec4<f32>, 4>(input[at.y], input[at.y + 1u], input[at.y + 2u], input[at.y + 3u]);
        let totals = vec2<f32>(total(x[0] + x[1] + x[2] + x[3]), total(y[0] + y[1] + y[2] + y[3]));
        sums += vec4<f32>(
            times(unpack(starts.x + unit), x, y, totals),
            times(unpack(starts.y + unit), x, y, totals),
            times(unpack(starts.z + unit), x, y, totals),
            times(unpack(starts.w + unit), x, y, totals),
        );
    }
    let result = reduce(sums, lane);
    if lane < 4u && row + lane < shape.rows {
        finish(row + lane, token, result[lane]);
    }
}
