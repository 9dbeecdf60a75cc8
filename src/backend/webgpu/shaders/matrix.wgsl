// A matrix, or the rows of it that are in one buffer: planes of codes, high bits and scales.

struct Shape {
    rows: u32,
    // Units of 32 columns per row.
    units: u32,
    // Groups of four columns per row.
    columns: u32,
    // The index of the first of these rows in the whole matrix, and the number of rows of the whole matrix.
    first_row: u32,
    width: u32,
    // Where the planes begin in the buffer, in words of 4 bytes: high bits, scales, and the extra number.
    high: u32,
    scales: u32,
    extra: u32,
}

// The same buffer bound twice: most planes are read 16 bytes at a time, some 4.
@group(1) @binding(0) var<storage, read> codes: array<vec4<u32>>;
@group(1) @binding(1) var<storage, read> words: array<u32>;
@group(1) @binding(4) var<uniform> shape: Shape;
