// The activations for `matvec.wgsl` where no thread waits for another: read from the input.

var<private> start: u32;

fn stage(token: u32, first: u32, lane: u32) {
    start = token * shape.columns + first * 8u;
}

// A group of four columns, counted from the first unit of `stage`. Wraps around where the unit's columns begin before that.
fn activation(column: u32) -> vec4<f32> {
    return input[start + column];
}
