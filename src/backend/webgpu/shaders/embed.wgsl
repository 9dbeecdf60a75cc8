// Rows of the embedding, unpacked: the stream of every token. A table of several buffers is asked buffer by buffer.

// The tokens.
@group(1) @binding(2) var<storage, read> input: array<u32>;
// [rows, columns]
@group(1) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let unit = id.x;
    let token = input[id.y];
    if unit >= shape.units || token < shape.first_row || token >= shape.first_row + shape.rows {
        return;
    }
    var unpacked = unpack((token - shape.first_row) * shape.units + unit);
    let at = columns_of(unit) + vec2<u32>(id.y * shape.columns);
    for (var i = 0u; i < 4u; i++) {
        output[at.x + i] = unpacked.scale.x * unpacked.first[i] + vec4<f32>(unpacked.offset.x);
        output[at.y + i] = unpacked.scale.y * unpacked.second[i] + vec4<f32>(unpacked.offset.y);
    }
}
