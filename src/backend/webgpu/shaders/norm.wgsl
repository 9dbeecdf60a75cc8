// RMS norm of a row, scaled by the norm's weights, and added to the output if ADDS. A workgroup per row.

// [rows, WIDTH]
@group(1) @binding(0) var<storage, read> input: array<vec4<f32>>;
// [WIDTH]
@group(1) @binding(1) var<storage, read> scales: array<vec4<f32>>;
// [rows, WIDTH]
@group(1) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32 SUBGROUP_INPUTS) {
    SUBGROUP_START
    let source = (job.input_row + group.x) * (WIDTH / 4u);
    let to = (job.output_row + group.x) * (WIDTH / 4u);
    var squares = vec4<f32>();
    for (var i = lane; i < WIDTH / 4u; i += THREADS) {
        let value = input[source + i];
        squares += value * value;
    }
    let sums = reduce(squares, lane);
    let scale = 1.0 / sqrt((sums.x + sums.y + sums.z + sums.w) / f32(WIDTH) + EPSILON);
    for (var i = lane; i < WIDTH / 4u; i += THREADS) {
        let normed = input[source + i] * scale * scales[i];
        if ADDS {
            output[to + i] += normed;
        } else {
            output[to + i] = normed;
        }
    }
}
