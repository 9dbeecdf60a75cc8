// The parameters of a dispatch, which change from one submission to the next. Everything else that a shader needs is a constant of the
// model or is in the uniform of a matrix (`matrix.wgsl`).

struct Job {
    // Rows (tokens) of this dispatch, and the index of the first one in the activations.
    rows: u32,
    first_row: u32,
    // The position of the first row in its sequence.
    start: u32,
    // Where the values begin in the KV cache, in groups of four numbers.
    values: u32,
    // Attention: the number of parts that the positions are split into, and the positions per part.
    splits: u32,
    split_length: u32,
    // Norm: the first row to read, and the first row to write.
    input_row: u32,
    output_row: u32,
    // Selection: the number of logits or candidates per row to select from, and the number to select.
    count: u32,
    wanted: u32,
    // Attention: the first position of the first part, and the latest positions that a row sees, itself included.
    begin: u32,
    window: u32,
}

@group(0) @binding(0) var<uniform> job: Job;
