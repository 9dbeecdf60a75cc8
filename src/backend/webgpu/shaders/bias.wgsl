// Adds a vector to every row. A thread per four numbers.

@group(1) @binding(0) var<storage, read> bias: array<vec4<f32>>;
// [rows, width of the vector]
@group(1) @binding(1) var<storage, read_write> values: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let quads = arrayLength(&bias);
    if id.x < quads {
        values[id.y * quads + id.x] += bias[id.x];
    }
}
