// RoPE: rotates queries (in place) and keys by the angles of their positions, and writes keys and values to the KV cache as f16. A thread
// per pair of neighbouring dimensions, which share an angle and, as f16, fit into one word.

// [rows, QUERY_PAIRS]
@group(1) @binding(0) var<storage, read_write> query: array<vec2<f32>>;
// [rows, KV_PAIRS], and so is `value`.
@group(1) @binding(1) var<storage, read> key: array<vec2<f32>>;
@group(1) @binding(2) var<storage, read> value: array<vec2<f32>>;
// Cosine and sine: [rows, ROPE_PAIRS]
@group(1) @binding(3) var<storage, read> angles: array<vec2<f32>>;
// Keys, then values: [positions, KV_HEADS, HEAD_PAIRS] each.
@group(1) @binding(4) var<storage, read_write> cache: array<u32>;

const KV_PAIRS = KV_HEADS * HEAD_PAIRS;
const QUERY_PAIRS = HEADS * HEAD_PAIRS;

// The pair of dimensions `index` of a row, rotated. Pairs of a head from ROPE_PAIRS on are unchanged.
fn turned(pair: vec2<f32>, index: u32, row: u32) -> vec2<f32> {
    let place = index % HEAD_PAIRS;
    if place >= ROPE_PAIRS {
        return pair;
    }
    let angle = angles[row * ROPE_PAIRS + place];
    return vec2<f32>(pair.x * angle.x - pair.y * angle.y, pair.x * angle.y + pair.y * angle.x);
}

// What queries are multiplied by.
fn temperature(position: u32) -> f32 {
    if TEMPERATURE_SCALE == 0.0 {
        return 1.0;
    }
    return 1.0 + TEMPERATURE_SCALE * log(1.0 + f32(position / TEMPERATURE_LENGTH));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = job.first_row + id.y;
    let position = (job.start + id.y) * KV_PAIRS;
    if id.x < QUERY_PAIRS {
        let at = row * QUERY_PAIRS + id.x;
        query[at] = turned(query[at], id.x, row) * temperature(job.start + id.y);
    } else if id.x < QUERY_PAIRS + KV_PAIRS {
        let index = id.x - QUERY_PAIRS;
        cache[position + index] = pack2x16float(turned(key[row * KV_PAIRS + index], index, row));
    } else if id.x < QUERY_PAIRS + 2u * KV_PAIRS {
        let index = id.x - QUERY_PAIRS - KV_PAIRS;
        cache[job.values * 2u + position + index] = pack2x16float(value[row * KV_PAIRS + index]);
    }
}
