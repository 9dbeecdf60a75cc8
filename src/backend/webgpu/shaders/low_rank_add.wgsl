// Adds what `low_rank_b.wgsl` has stored to the product behind a gate.

// [rows, outputs]
@group(1) @binding(2) var<storage, read> stored: array<f32>;
// [rows, outputs]
@group(1) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < shape.outputs {
        let at = (job.first_row + id.y) * shape.outputs + id.x;
        output[at] += stored[at];
    }
}
