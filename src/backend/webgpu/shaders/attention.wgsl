// Attention over a part of the positions, with a running (online) softmax. A workgroup computes ROWS rows and SHARED of the query heads
// that share one KV head, so every key and value is read once for all of these queries. It processes tiles of 64 positions: first each
// thread computes the scores of all queries at one position, then each thread adds up four dimensions of the values. If the positions are
// split over several workgroups, `combine.wgsl` combines their results.

const TILE = 64u;
const QUERIES = ROWS * SHARED;
// Query heads per KV head, and the workgroups that they need.
const GROUP = HEADS / KV_HEADS;
const PORTIONS = (GROUP + SHARED - 1u) / SHARED;
// Threads that reduce the scores of one query.
const PARTS = TILE / QUERIES;
// Threads that add up the same dimensions of the values; each does every TURNS-th position.
const TURNS = TILE / HEAD_QUADS;
const LOWEST = -3.0e38;

// [rows, HEADS, HEAD_QUADS]
@group(1) @binding(0) var<storage, read> query: array<vec4<f32>>;
// Keys, then values: [positions, KV_HEADS, HEAD_QUADS] each.
@group(1) @binding(1) var<storage, read> cache: array<Quad>;
// [rows, HEADS, HEAD_QUADS]
@group(1) @binding(2) var<storage, read_write> attended: array<vec4<f32>>;
// [rows, HEADS, splits, HEAD_QUADS + 1]: weighted sums of values, not yet normalised; the last element has the largest score and the sum of
// the exponentials.
@group(1) @binding(3) var<storage, read_write> partials: array<vec4<f32>>;

var<workgroup> queries: array<vec4<f32>, QUERIES * HEAD_QUADS>;
var<workgroup> scores: array<f32, QUERIES * TILE>;
var<workgroup> partial: array<f32, TILE>;
var<workgroup> factors: array<f32, QUERIES>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv_head = group.y / PORTIONS;
    let first_head = group.y % PORTIONS * SHARED;
    let first_row = group.z * ROWS;
    let begin = group.x * job.split_length;
    let end = min(begin + job.split_length, job.start + min(first_row + ROWS, job.rows));

    for (var i = lane; i < QUERIES * HEAD_QUADS; i += TILE) {
        let row = first_row + i / HEAD_QUADS / SHARED;
        let head = first_head + i / HEAD_QUADS % SHARED;
        var value = vec4<f32>();
        if row < job.rows && head < GROUP {
            value = query[((job.first_row + row) * HEADS + kv_head * GROUP + head) * HEAD_QUADS + i % HEAD_QUADS] * SCALE;
        }
        queries[i] = value;
    }
    workgroupBarrier();

    // The query whose softmax this thread computes, and the first of its QUERIES scores.
    let mine = lane % QUERIES;
    let share = mine * TILE + lane / QUERIES * QUERIES;
    var largest = LOWEST;
    var sum = 0.0;
    // The four dimensions of the values that it adds up, and the first position of each tile that it does.
    let quad = lane % HEAD_QUADS;
    let turn = lane / HEAD_QUADS;
    var values: array<vec4<f32>, QUERIES>;

    for (var base = begin; base < end; base += TILE) {
        let position = base + lane;
        // Initialised explicitly: in a loop, Chromium's SwiftShader keeps the values of the previous iteration.
        var products: array<f32, QUERIES>;
        for (var q = 0u; q < QUERIES; q++) {
            products[q] = 0.0;
        }
        if position < end {
            let source = (position * KV_HEADS + kv_head) * HEAD_QUADS;
            for (var i = 0u; i < HEAD_QUADS; i++) {
                let key = four(cache[source + i]);
                for (var q = 0u; q < QUERIES; q++) {
                    products[q] += dot(key, queries[q * HEAD_QUADS + i]);
                }
            }
        }
        for (var q = 0u; q < QUERIES; q++) {
            let seen = position < end && position <= job.start + first_row + q / SHARED;
            scores[q * TILE + lane] = select(LOWEST, products[q], seen);
        }
        workgroupBarrier();

        var highest = LOWEST;
        for (var i = 0u; i < QUERIES; i++) {
            highest = max(highest, scores[share + i]);
        }
        partial[lane] = highest;
        workgroupBarrier();
        let before = largest;
        for (var i = 0u; i < PARTS; i++) {
            largest = max(largest, partial[i * QUERIES + mine]);
        }
        workgroupBarrier();

        var added = 0.0;
        for (var i = 0u; i < QUERIES; i++) {
            let score = scores[share + i];
            let weight = select(0.0, exp(score - largest), score > LOWEST);
            scores[share + i] = weight;
            added += weight;
        }
        partial[lane] = added;
        let factor = exp(before - largest);
        if lane < QUERIES {
            factors[lane] = factor;
        }
        workgroupBarrier();
        sum *= factor;
        for (var i = 0u; i < PARTS; i++) {
            sum += partial[i * QUERIES + mine];
        }

        for (var q = 0u; q < QUERIES; q++) {
            values[q] *= factors[q];
        }
        if turn < TURNS {
            for (var i = turn; i < min(TILE, end - base); i += TURNS) {
                let value = four(cache[job.values + ((base + i) * KV_HEADS + kv_head) * HEAD_QUADS + quad]);
                for (var q = 0u; q < QUERIES; q++) {
                    values[q] += scores[q * TILE + i] * value;
                }
            }
        }
        workgroupBarrier();
    }

    // Adds up the partial sums of the TURNS threads. The memory of the queries is reused, as they are no longer needed.
    for (var t = 1u; t < TURNS; t++) {
        if turn == t {
            for (var q = 0u; q < QUERIES; q++) {
                queries[q * HEAD_QUADS + quad] = values[q];
            }
        }
        workgroupBarrier();
        if turn == 0u {
            for (var q = 0u; q < QUERIES; q++) {
                values[q] += queries[q * HEAD_QUADS + quad];
            }
        }
        workgroupBarrier();
    }
    if lane < QUERIES {
        factors[lane] = sum;
        partial[lane] = largest;
    }
    workgroupBarrier();
    if turn != 0u {
        return;
    }
    for (var q = 0u; q < QUERIES; q++) {
        let row = first_row + q / SHARED;
        let head = first_head + q % SHARED;
        if row < job.rows && head < GROUP {
            let index = row * HEADS + kv_head * GROUP + head;
            if job.splits == 1u {
                attended[(job.first_row * HEADS + index) * HEAD_QUADS + quad] = values[q] / factors[q];
            } else {
                let to = (index * job.splits + group.x) * (HEAD_QUADS + 1u);
                partials[to + quad] = values[q];
                if quad == 0u {
                    partials[to + HEAD_QUADS] = vec4<f32>(partial[q], factors[q], 0.0, 0.0);
                }
            }
        }
    }
}
