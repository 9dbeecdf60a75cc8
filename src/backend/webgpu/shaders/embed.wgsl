// Dequantises the embedding of each token into the residual stream, times a scale. If the table is split into several buffers, each one has a dispatch,
// which skips the tokens of other buffers.

// Token ids, [rows].
@group(1) @binding(2) var<storage, read> input: array<u32>;
// [rows, columns]
@group(1) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    prepare(index);
    let unit = id.x;
    let token = input[id.y];
    if unit >= shape.units || token < shape.first_row || token >= shape.first_row + shape.rows {
        return;
    }
    let w = unpack((token - shape.first_row) * shape.units + unit);
    let at = columns_of(unit) + vec2<u32>(id.y * shape.columns);
    let offset = vec4<f32>(w.offset.x);
    output[at.x] = EMBEDDING_SCALE * (w.scale.x * w.a + offset);
    output[at.x + 1u] = EMBEDDING_SCALE * (w.scale.x * w.b + offset);
    output[at.x + 2u] = EMBEDDING_SCALE * (w.scale.x * w.c + offset);
    output[at.x + 3u] = EMBEDDING_SCALE * (w.scale.x * w.d + offset);
    let offset_after = vec4<f32>(w.offset.y);
    output[at.y] = EMBEDDING_SCALE * (w.scale.y * w.e + offset_after);
    output[at.y + 1u] = EMBEDDING_SCALE * (w.scale.y * w.f + offset_after);
    output[at.y + 2u] = EMBEDDING_SCALE * (w.scale.y * w.g + offset_after);
    output[at.y + 3u] = EMBEDDING_SCALE * (w.scale.y * w.h + offset_after);
}
