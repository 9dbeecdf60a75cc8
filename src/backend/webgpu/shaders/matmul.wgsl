// Matrix × matrix, for many tokens: a workgroup computes a tile of 64 rows and 16 · TOKENS tokens. Each unit of the weights is unpacked once,
// into the workgroup's memory, and used for all of the tile's tokens. The groups of four columns of a line are exchanged by
// its number, so that threads that read one column of neighbouring lines do not meet in one bank.

const TILE_TOKENS = 16u * TOKENS;

var<workgroup> weights: array<vec4<f32>, 512>;
var<workgroup> activations: array<vec4<f32>, 8u * TILE_TOKENS>;

fn place(line: u32, column: u32) -> u32 {
    return line * 8u + (column ^ (line & 7u));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * 64u;
    let token = group.y * TILE_TOKENS;
    // This thread's rows are 16 apart, and its tokens too.
    let x = lane % 16u;
    let y = lane / 16u;
    var sums: array<vec4<f32>, TOKENS>;
    for (var unit = 0u; unit < shape.units; unit++) {
        if lane < 64u {
            var unpacked = unpack(min(row + lane, shape.rows - 1u) * shape.units + unit);
            for (var i = 0u; i < 4u; i++) {
                weights[place(lane, i)] = unpacked.scale.x * unpacked.first[i] + vec4<f32>(unpacked.offset.x);
                weights[place(lane, i + 4u)] = unpacked.scale.y * unpacked.second[i] + vec4<f32>(unpacked.offset.y);
            }
        } else {
            let columns = columns_of(unit);
            for (var i = lane - 64u; i < 8u * TILE_TOKENS; i += 192u) {
                let line = i / 8u;
                let column = i % 8u;
                let source = select(columns.y + column - 4u, columns.x + column, column < 4u);
                activations[place(line, column)] = input[min(token + line, job.rows - 1u) * shape.columns + source];
            }
        }
        workgroupBarrier();
        for (var column = 0u; column < 8u; column++) {
            let a = weights[place(x, column)];
            let b = weights[place(x + 16u, column)];
            let c = weights[place(x + 32u, column)];
            let d = weights[place(x + 48u, column)];
            for (var t = 0u; t < TOKENS; t++) {
                let v = activations[place(y + 16u * t, column)];
                sums[t] += vec4<f32>(dot(a, v), dot(b, v), dot(c, v), dot(d, v));
            }
        }
        workgroupBarrier();
    }
    for (var t = 0u; t < TOKENS; t++) {
        let to = token + y + 16u * t;
        for (var r = 0u; r < 4u; r++) {
            if to < job.rows && row + x + 16u * r < shape.rows {
                finish(row + x + 16u * r, to, sums[t][r]);
            }
        }
    }
}
