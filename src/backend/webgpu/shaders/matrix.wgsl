// A matrix, or those rows of it that one buffer holds: planes of codes, high bits and scales.

struct Shape {
    rows: u32,
    // Of 32 columns, per row.
    units: u32,
    // Columns in groups of four.
    columns: u32,
    // Where these rows begin in the whole matrix, and how many rows that has.
    first_row: u32,
    width: u32,
    // Where planes begin, in words.
    high: u32,
    scales: u32,
    extra: u32,
}

// The same buffer twice: most planes are read by 16 bytes, some by 4.
@group(1) @binding(0) var<storage, read> codes: array<vec4<u32>>;
@group(1) @binding(1) var<storage, read> words: array<u32>;
@group(1) @binding(4) var<uniform> shape: Shape;
