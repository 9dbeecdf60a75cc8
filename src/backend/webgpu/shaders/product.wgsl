// What every matrix product does at its ends: activations in, sums out.

// [rows, columns]
@group(1) @binding(2) var<storage, read> input: array<vec4<f32>>;
// [rows, width]
@group(1) @binding(3) var<storage, read_write> output: array<f32>;

const STORE = 0u;
// The residual connection.
const ADD = 1u;
// SwiGLU: what is there is the gate.
const GATE = 2u;

fn finish(row: u32, token: u32, sum: f32) {
    let at = token * shape.width + shape.first_row + row;
    if ENDING == ADD {
        output[at] = output[at] + sum;
    } else if ENDING == GATE {
        let gate = output[at];
        output[at] = gate / (1.0 + exp(-gate)) * sum;
    } else {
        output[at] = sum;
    }
}
