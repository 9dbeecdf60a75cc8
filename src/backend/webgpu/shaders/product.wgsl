// The input, output and epilogue of every matrix product.

// [rows, columns]
@group(1) @binding(2) var<storage, read> input: array<vec4<f32>>;
// [rows, width], where `width` is the number of rows of the matrix
@group(1) @binding(3) var<storage, read_write> output: array<f32>;

// The values of EPILOGUE (`Epilogue` in `shaders.rs`).
const STORE = 0u;
// The residual connection.
const ADD = 1u;
// The output holds the gate.
const SILU = 2u;
const GELU = 3u;

// Applies the epilogue to one sum.
fn finish(row: u32, token: u32, sum: f32) {
    let at = token * shape.width + shape.first_row + row;
    if EPILOGUE == ADD {
        output[at] = output[at] + sum;
    } else if EPILOGUE == SILU {
        let gate = output[at];
        output[at] = gate / (1.0 + exp(-gate)) * sum;
    } else if EPILOGUE == GELU {
        // (1 + tanh(z)) / 2 = sigmoid(2z), with z = √(2/π) · (x + 0.044715 x³).
        let gate = output[at];
        output[at] = gate / (1.0 + exp(-gate * (1.5957691 + 0.071354814 * gate * gate))) * sum;
    } else {
        output[at] = sum;
    }
}
