// RMS norm of every part of a row, in place, scaled by the norm's weights: a head, or all of them. A workgroup per part and row.

// [width of a part]
@group(1) @binding(0) var<storage, read> scales: array<vec4<f32>>;
// [rows, parts, width of a part]; `parts` is the number of workgroups per row.
@group(1) @binding(1) var<storage, read_write> values: array<vec4<f32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32 SUBGROUP_INPUTS) {
    SUBGROUP_START
    let quads = arrayLength(&scales);
    let at = (group.y * groups.x + group.x) * quads;
    var squares = vec4<f32>();
    for (var i = lane; i < quads; i += THREADS) {
        let value = values[at + i];
        squares += value * value;
    }
    let sums = reduce(squares, lane);
    let scale = 1.0 / sqrt((sums.x + sums.y + sums.z + sums.w) / f32(4u * quads) + EPSILON);
    for (var i = lane; i < quads; i += THREADS) {
        values[at + i] = values[at + i] * scale * scales[i];
    }
}
