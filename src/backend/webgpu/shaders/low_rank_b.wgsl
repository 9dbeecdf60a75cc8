// The outer half of a LoRA adapter's product: B·(scale · A·x), added to the output. Where the product's epilogue is a gate, it is multiplied by
// the activated gate instead, and stored, to be added after that product. A thread per row of B and row of activations.

// [outputs, rank]
@group(1) @binding(0) var<storage, read> b: array<vec4<f32>>;
// [rows, outputs]
@group(1) @binding(1) var<storage, read> gates: array<f32>;
// [rows of the job, rank]
@group(1) @binding(2) var<storage, read> inner: array<vec4<f32>>;
// [rows, outputs]
@group(1) @binding(3) var<storage, read_write> output: array<f32>;

// The values of EPILOGUE, as in `product.wgsl`.
const SILU = 2u;
const GELU = 3u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= shape.outputs {
        return;
    }
    let quads = shape.rank / 4u;
    var products = vec4<f32>();
    for (var i = 0u; i < quads; i++) {
        products += b[id.x * quads + i] * inner[id.y * quads + i];
    }
    let sum = products.x + products.y + products.z + products.w;
    let at = (job.first_row + id.y) * shape.outputs + id.x;
    if EPILOGUE == SILU {
        let gate = gates[at];
        output[at] = gate / (1.0 + exp(-gate)) * sum;
    } else if EPILOGUE == GELU {
        let gate = gates[at];
        output[at] = gate / (1.0 + exp(-gate * (1.5957691 + 0.071354814 * gate * gate))) * sum;
    } else {
        output[at] += sum;
    }
}
