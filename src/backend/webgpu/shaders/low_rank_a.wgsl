// The inner half of a LoRA adapter's product: scale · A·x. A workgroup per row of A and row of activations.

// [rank, columns]
@group(1) @binding(0) var<storage, read> a: array<vec4<f32>>;
// [rows, columns]
@group(1) @binding(2) var<storage, read> input: array<vec4<f32>>;
// [rows of the job, rank]
@group(1) @binding(3) var<storage, read_write> inner: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32 SUBGROUP_INPUTS) {
    SUBGROUP_START
    let at = group.x * shape.columns;
    let source = (job.first_row + group.y) * shape.columns;
    var products = vec4<f32>();
    for (var i = lane; i < shape.columns; i += THREADS) {
        products += a[at + i] * input[source + i];
    }
    let sums = reduce(products, lane);
    if lane == 0u {
        inner[group.y * shape.rank + group.x] = shape.scale * (sums.x + sums.y + sums.z + sums.w);
    }
}
