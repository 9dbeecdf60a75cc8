// Matrix × matrix, for many tokens. A workgroup computes a tile of 64 rows and 16 · TOKENS tokens. Each unit of the weights is unpacked
// once into workgroup memory and used for all tokens of the tile. In workgroup memory a line holds 32 columns (eight groups of four) of a
// row or a token. Its groups are permuted by the line's index, so that threads that read the same column of neighbouring lines do not
// cause bank conflicts.

const TILE_TOKENS = 16u * TOKENS;

var<workgroup> weights: array<vec4<f32>, 512>;
var<workgroup> activations: array<vec4<f32>, 8u * TILE_TOKENS>;

// Index of a group of four columns in workgroup memory.
fn place(line: u32, column: u32) -> u32 {
    return line * 8u + (column ^ (line & 7u));
}

// The sums of four rows for one token, with the products of four columns added.
fn added(sums: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, x: vec4<f32>) -> vec4<f32> {
    // One multiply-add per product. `dot` would take a fifth instruction for every four.
    var sum = sums + vec4<f32>(a.x, b.x, c.x, d.x) * x.x;
    sum += vec4<f32>(a.y, b.y, c.y, d.y) * x.y;
    sum += vec4<f32>(a.z, b.z, c.z, d.z) * x.z;
    return sum + vec4<f32>(a.w, b.w, c.w, d.w) * x.w;
}

// Finishes the sums of four rows, 16 apart, for one token.
fn finish_rows(row: u32, token: u32, sums: vec4<f32>) {
    if token >= job.rows {
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        if row + 16u * i < shape.rows {
            finish(row + 16u * i, token, sums[i]);
        }
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    prepare(lane);
    let row = group.x * 64u;
    let token = group.y * TILE_TOKENS;
    // The rows of a thread are 16 apart, and so are its tokens.
    let x = lane % 16u;
    let y = lane / 16u;
    // The sums of the thread's first, second, third and fourth token, one component per row.
    var s = vec4<f32>();
    var t = vec4<f32>();
    var u = vec4<f32>();
    var v = vec4<f32>();
    for (var unit = 0u; unit < shape.units; unit++) {
        if lane < 64u {
            let w = unpack(min(row + lane, shape.rows - 1u) * shape.units + unit);
            let offset = vec4<f32>(w.offset.x);
            weights[place(lane, 0u)] = w.scale.x * w.a + offset;
            weights[place(lane, 1u)] = w.scale.x * w.b + offset;
            weights[place(lane, 2u)] = w.scale.x * w.c + offset;
            weights[place(lane, 3u)] = w.scale.x * w.d + offset;
            let offset_after = vec4<f32>(w.offset.y);
            weights[place(lane, 4u)] = w.scale.y * w.e + offset_after;
            weights[place(lane, 5u)] = w.scale.y * w.f + offset_after;
            weights[place(lane, 6u)] = w.scale.y * w.g + offset_after;
            weights[place(lane, 7u)] = w.scale.y * w.h + offset_after;
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
            s = added(s, a, b, c, d, activations[place(y, column)]);
            if TOKENS > 1u {
                t = added(t, a, b, c, d, activations[place(y + 16u, column)]);
                u = added(u, a, b, c, d, activations[place(y + 32u, column)]);
                v = added(v, a, b, c, d, activations[place(y + 48u, column)]);
            }
        }
        workgroupBarrier();
    }
    finish_rows(row + x, token + y, s);
    if TOKENS > 1u {
        finish_rows(row + x, token + y + 16u, t);
        finish_rows(row + x, token + y + 32u, u);
        finish_rows(row + x, token + y + 48u, v);
    }
}
