// What changes from one submission to the next. Everything else a kernel needs is a constant of the model or stands beside the matrix.

struct Job {
    // Rows (tokens) of this dispatch, and the first of them in the activations.
    rows: u32,
    first_row: u32,
    // The position of the first row in its sequence.
    start: u32,
    // Where values begin in the cache, in groups of four.
    values: u32,
    // Attention: parts that the positions are split into, and positions of each.
    splits: u32,
    split_length: u32,
    // Row that is read, and row that is written, where they differ.
    input_row: u32,
    output_row: u32,
    // Numbers to choose from, and how many of them are wanted.
    count: u32,
    wanted: u32,
    unused_a: u32,
    unused_b: u32,
}

@group(0) @binding(0) var<uniform> job: Job;
