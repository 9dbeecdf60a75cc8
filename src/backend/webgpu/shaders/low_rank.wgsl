// A matrix of low rank that a LoRA adapter has beside a matrix of the model: scale · B·A. Its shaders compute the rows `job.first_row` to
// `job.first_row + job.rows` of the activations.

struct LowRank {
    // Groups of four columns of A.
    columns: u32,
    // Rows of A and columns of B, rounded up to a multiple of four with zeros.
    rank: u32,
    // Rows of B.
    outputs: u32,
    scale: f32,
}

@group(1) @binding(4) var<uniform> shape: LowRank;
