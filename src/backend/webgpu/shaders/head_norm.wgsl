// RMS norm of every head of a row, in place, scaled by the norm's weights. A workgroup per head and row.

// [HEAD_QUADS]
@group(1) @binding(0) var<storage, read> scales: array<vec4<f32>>;
// [rows, heads, HEAD_QUADS]; `heads` is the number of workgroups per row.
@group(1) @binding(1) var<storage, read_write> values: array<vec4<f32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32 SUBGROUP_INPUTS) {
    SUBGROUP_START
    let at = (group.y * groups.x + group.x) * HEAD_QUADS;
    var value = vec4<f32>();
    // Heads have at most 256 dimensions.
    if lane < HEAD_QUADS {
        value = values[at + lane];
    }
    let sums = reduce(value * value, lane);
    let scale = 1.0 / sqrt((sums.x + sums.y + sums.z + sums.w) / f32(4u * HEAD_QUADS) + EPSILON);
    if lane < HEAD_QUADS {
        values[at + lane] = value * scale * scales[lane];
    }
}
