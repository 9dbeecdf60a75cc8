// Attention over a part of the positions, with a running (online) softmax. A workgroup computes ROWS rows and SHARED of the query heads
// that share one KV head, so every key and value is read once for all of these queries. It processes tiles of 64 positions: first the
// threads compute the scores of four queries each at some positions, then each thread adds up four dimensions of the values. If the
// positions are split over several workgroups, `combine.wgsl` combines their results.
//
// Sums are in vectors and matrices with constant indices, never in arrays indexed by a loop: compilers that do not unroll the loop would
// keep such an array in memory. For the same reason loads are written out four at a time: a thread waits once for all four.

const TILE = 64u;
const QUERIES = ROWS * SHARED;
// Queries in groups of four. A group that is not full computes with zeros.
const FOURS = (QUERIES + 3u) / 4u;
// A thread computes scores at FOURS positions of a tile, with this distance between them.
const STRIDE = TILE / FOURS;
// Vectors of `queries` per group: one per dimension. One more keeps the groups in different banks.
const GROUP_LENGTH = HEAD_QUADS * 4u + 1u;
// Query heads per KV head, and the workgroups that they need.
const GROUP = HEADS / KV_HEADS;
const PORTIONS = (GROUP + SHARED - 1u) / SHARED;
// Threads that reduce the results of the others for one query.
const PARTS = TILE / (4u * FOURS);
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

// [FOURS, dimensions of the head]: a dimension of four queries. At the end it exchanges sums of values between threads.
var<workgroup> queries: array<vec4<f32>, FOURS * GROUP_LENGTH>;
// [TILE, FOURS]: the exponentials of scores, of four queries at a position.
var<workgroup> weights: array<vec4<f32>, TILE * FOURS>;
// What the threads reduce: four queries per thread, then one query per thread, then per query.
var<workgroup> of_threads: array<vec4<f32>, TILE>;
var<workgroup> of_parts: array<f32, TILE>;
var<workgroup> largest: array<f32, 4u * FOURS>;
var<workgroup> factors: array<f32, 4u * FOURS>;
var<workgroup> totals: array<f32, 4u * FOURS>;

// Four queries of a group. Threads write single numbers, because writing a component of a vector may write the whole vector.
fn largest_of(four_of: u32) -> vec4<f32> {
    let q = four_of * 4u;
    return vec4<f32>(largest[q], largest[q + 1u], largest[q + 2u], largest[q + 3u]);
}

fn factors_of(four_of: u32) -> vec4<f32> {
    let q = four_of * 4u;
    return vec4<f32>(factors[q], factors[q + 1u], factors[q + 2u], factors[q + 3u]);
}

// The products of four dimensions of a key and of four queries. `at`: where the dimensions begin in `queries`.
fn products(key: vec4<f32>, at: u32) -> vec4<f32> {
    return key.x * queries[at] + key.y * queries[at + 1u] + key.z * queries[at + 2u] + key.w * queries[at + 3u];
}

// Four dimensions of a value, weighted for four queries (the columns).
fn weighted(value: vec4<f32>, weights: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(weights.x * value, weights.y * value, weights.z * value, weights.w * value);
}

fn scaled(sums: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(sums[0] * by.x, sums[1] * by.y, sums[2] * by.z, sums[3] * by.w);
}

// The scores of a group at a position, LOWEST where a query does not see the position. `first_row`: of the workgroup.
fn masked(sums: vec4<f32>, position: u32, end: u32, first_row: u32, four_of: u32) -> vec4<f32> {
    let rows = vec4<u32>(job.start + first_row) + (vec4<u32>(four_of * 4u) + vec4<u32>(0u, 1u, 2u, 3u)) / SHARED;
    let in_window = rows - vec4<u32>(position) < vec4<u32>(job.window);
    let seen = vec4<bool>(position < end) & (vec4<u32>(position) <= rows) & in_window;
    return select(vec4<f32>(LOWEST), capped(sums), seen);
}

fn capped(scores: vec4<f32>) -> vec4<f32> {
    if SOFTCAP == 0.0 {
        return scores;
    }
    // Of larger numbers it is 1, and some adapters compute infinity / infinity.
    return SOFTCAP * tanh(clamp(scores * SOFTCAP_INVERSE, vec4<f32>(-10.0), vec4<f32>(10.0)));
}

// The exponentials of scores, which are LOWEST where a query does not see the position.
fn exponentials(scores: vec4<f32>, highest: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), exp(scores - highest), scores > vec4<f32>(LOWEST));
}

// Adds what another thread left in `queries` for the same dimensions.
fn received(sums: mat4x4<f32>, four_of: u32, quad: u32) -> mat4x4<f32> {
    let at = four_of * GROUP_LENGTH + quad * 4u;
    return sums + mat4x4<f32>(queries[at], queries[at + 1u], queries[at + 2u], queries[at + 3u]);
}

fn send(sums: mat4x4<f32>, four_of: u32, quad: u32) {
    let at = four_of * GROUP_LENGTH + quad * 4u;
    queries[at] = sums[0];
    queries[at + 1u] = sums[1];
    queries[at + 2u] = sums[2];
    queries[at + 3u] = sums[3];
}

// Four dimensions of a query, scaled; zeros where there is no such query.
fn query_at(q: u32, quad: u32, group: vec3<u32>) -> vec4<f32> {
    let row = group.z * ROWS + q / SHARED;
    let head = group.y % PORTIONS * SHARED + q % SHARED;
    if q >= QUERIES || row >= job.rows || head >= GROUP {
        return vec4<f32>();
    }
    return query[((job.first_row + row) * HEADS + group.y / PORTIONS * GROUP + head) * HEAD_QUADS + quad] * SCALE;
}

// Writes four dimensions of one query, with the largest score and the sum of its exponentials.
fn write(q: u32, quad: u32, group: vec3<u32>, values: vec4<f32>) {
    let row = group.z * ROWS + q / SHARED;
    let head = group.y % PORTIONS * SHARED + q % SHARED;
    if q >= QUERIES || row >= job.rows || head >= GROUP {
        return;
    }
    let index = row * HEADS + group.y / PORTIONS * GROUP + head;
    let sum = totals[q];
    if job.splits == 1u {
        attended[(job.first_row * HEADS + index) * HEAD_QUADS + quad] = values / sum;
        return;
    }
    let to = (index * job.splits + group.x) * (HEAD_QUADS + 1u);
    partials[to + quad] = values;
    if quad == 0u {
        partials[to + HEAD_QUADS] = vec4<f32>(largest[q], sum, 0.0, 0.0);
    }
}

fn write_four(four_of: u32, quad: u32, group: vec3<u32>, sums: mat4x4<f32>) {
    write(four_of * 4u, quad, group, sums[0]);
    write(four_of * 4u + 1u, quad, group, sums[1]);
    write(four_of * 4u + 2u, quad, group, sums[2]);
    write(four_of * 4u + 3u, quad, group, sums[3]);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv_head = group.y / PORTIONS;
    let first_row = group.z * ROWS;
    let first_of_part = job.begin + group.x * job.split_length;
    let end = min(first_of_part + job.split_length, job.start + min(first_row + ROWS, job.rows));
    // Tiles that no row sees are left out.
    let seen_by_first = job.start + first_row + 1u;
    let begin = max(first_of_part, (seen_by_first - min(seen_by_first, job.window)) / TILE * TILE);

    for (var i = lane; i < FOURS * HEAD_QUADS; i += TILE) {
        let q = i / HEAD_QUADS * 4u;
        let quad = i % HEAD_QUADS;
        let a = query_at(q, quad, group);
        let b = query_at(q + 1u, quad, group);
        let c = query_at(q + 2u, quad, group);
        let d = query_at(q + 3u, quad, group);
        send(transpose(mat4x4<f32>(a, b, c, d)), q / 4u, quad);
    }
    workgroupBarrier();

    // The group of queries whose scores this thread computes, and the first of its positions in a tile.
    let four_of = lane % FOURS;
    let place = lane / FOURS;
    let of_four = four_of * GROUP_LENGTH;
    // The sums of their exponentials at these positions.
    var sum = vec4<f32>();
    // The query for which this thread reduces the other threads' results, and the part of them that it does.
    let mine = lane % (4u * FOURS);
    let part = lane / (4u * FOURS);
    if part == 0u {
        largest[mine] = LOWEST;
    }
    // The four dimensions of the values that it adds up, and the first position of each tile that it does.
    let quad = lane % HEAD_QUADS;
    let turn = lane / HEAD_QUADS;
    // The sums of four queries each.
    var first = mat4x4<f32>();
    var second = mat4x4<f32>();
    var third = mat4x4<f32>();
    var fourth = mat4x4<f32>();

    for (var base = begin; base < end; base += TILE) {
        // Positions from `end` on are computed like the last one, and masked.
        let row_length = KV_HEADS * HEAD_QUADS;
        let of_head = kv_head * HEAD_QUADS;
        let position = base + place;
        let a = min(position, end - 1u) * row_length + of_head;
        var sums_a = vec4<f32>();
        var sums_b = vec4<f32>(LOWEST);
        var sums_c = vec4<f32>(LOWEST);
        var sums_d = vec4<f32>(LOWEST);
        if FOURS == 1u {
            var i = 0u;
            for (; i + 3u < HEAD_QUADS; i += 4u) {
                let k = four(cache[a + i]);
                let l = four(cache[a + i + 1u]);
                let m = four(cache[a + i + 2u]);
                let n = four(cache[a + i + 3u]);
                let at = of_four + i * 4u;
                // One after the other, as for more queries: then a position has the same bits in a prompt and on its own.
                sums_a += products(k, at);
                sums_a += products(l, at + 4u);
                sums_a += products(m, at + 8u);
                sums_a += products(n, at + 12u);
            }
            for (; i < HEAD_QUADS; i++) {
                sums_a += products(four(cache[a + i]), of_four + i * 4u);
            }
        } else if FOURS == 2u {
            let b = min(position + STRIDE, end - 1u) * row_length + of_head;
            sums_b = vec4<f32>();
            for (var i = 0u; i < HEAD_QUADS; i++) {
                let k = four(cache[a + i]);
                let l = four(cache[b + i]);
                sums_a += products(k, of_four + i * 4u);
                sums_b += products(l, of_four + i * 4u);
            }
            sums_b = masked(sums_b, position + STRIDE, end, first_row, four_of);
        } else {
            let b = min(position + STRIDE, end - 1u) * row_length + of_head;
            let c = min(position + 2u * STRIDE, end - 1u) * row_length + of_head;
            let d = min(position + 3u * STRIDE, end - 1u) * row_length + of_head;
            sums_b = vec4<f32>();
            sums_c = vec4<f32>();
            sums_d = vec4<f32>();
            for (var i = 0u; i < HEAD_QUADS; i++) {
                let k = four(cache[a + i]);
                let l = four(cache[b + i]);
                let m = four(cache[c + i]);
                let n = four(cache[d + i]);
                sums_a += products(k, of_four + i * 4u);
                sums_b += products(l, of_four + i * 4u);
                sums_c += products(m, of_four + i * 4u);
                sums_d += products(n, of_four + i * 4u);
            }
            sums_b = masked(sums_b, position + STRIDE, end, first_row, four_of);
            sums_c = masked(sums_c, position + 2u * STRIDE, end, first_row, four_of);
            sums_d = masked(sums_d, position + 3u * STRIDE, end, first_row, four_of);
        }
        sums_a = masked(sums_a, position, end, first_row, four_of);

        // The largest score of each query so far: over the threads of a part, then over the parts.
        of_threads[lane] = max(max(sums_a, sums_b), max(sums_c, sums_d));
        workgroupBarrier();
        var highest = LOWEST;
        for (var i = part; i < STRIDE; i += PARTS) {
            highest = max(highest, of_threads[i * FOURS + mine / 4u][mine % 4u]);
        }
        of_parts[lane] = highest;
        workgroupBarrier();
        if part == 0u {
            let before = largest[mine];
            for (var i = 0u; i < PARTS; i++) {
                highest = max(highest, of_parts[i * 4u * FOURS + mine]);
            }
            highest = max(highest, before);
            largest[mine] = highest;
            factors[mine] = exp(before - highest);
        }
        workgroupBarrier();

        let top = largest_of(four_of);
        let weights_a = exponentials(sums_a, top);
        weights[place * FOURS + four_of] = weights_a;
        sum = sum * factors_of(four_of) + weights_a;
        if FOURS > 1u {
            let weights_b = exponentials(sums_b, top);
            weights[(place + STRIDE) * FOURS + four_of] = weights_b;
            sum += weights_b;
        }
        if FOURS > 2u {
            let weights_c = exponentials(sums_c, top);
            let weights_d = exponentials(sums_d, top);
            weights[(place + 2u * STRIDE) * FOURS + four_of] = weights_c;
            weights[(place + 3u * STRIDE) * FOURS + four_of] = weights_d;
            sum += weights_c + weights_d;
        }
        workgroupBarrier();

        first = scaled(first, factors_of(0u));
        if FOURS > 1u {
            second = scaled(second, factors_of(1u));
        }
        if FOURS > 2u {
            third = scaled(third, factors_of(2u));
            fourth = scaled(fourth, factors_of(3u));
        }
        if turn < TURNS {
            for (var i = turn; i < min(TILE, end - base); i += 4u * TURNS) {
                // Four positions. Those beyond the tile or from `end` on are read like the last one there, with a weight of 0.
                let last = end - 1u - base;
                let places = vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u) * TURNS;
                let source = (vec4<u32>(base) + min(places, vec4<u32>(last))) * row_length + vec4<u32>(job.values + of_head + quad);
                let k = four(cache[source.x]);
                let l = four(cache[source.y]);
                let m = four(cache[source.z]);
                let n = four(cache[source.w]);
                let at = min(places, vec4<u32>(TILE - 1u)) * FOURS;
                let valid = select(vec4<f32>(), vec4<f32>(1.0), places < vec4<u32>(TILE));
                first += weighted(k, weights[at.x]) + weighted(l, weights[at.y] * valid.y)
                    + weighted(m, weights[at.z] * valid.z) + weighted(n, weights[at.w] * valid.w);
                if FOURS > 1u {
                    second += weighted(k, weights[at.x + 1u]) + weighted(l, weights[at.y + 1u] * valid.y)
                        + weighted(m, weights[at.z + 1u] * valid.z) + weighted(n, weights[at.w + 1u] * valid.w);
                }
                if FOURS > 2u {
                    third += weighted(k, weights[at.x + 2u]) + weighted(l, weights[at.y + 2u] * valid.y)
                        + weighted(m, weights[at.z + 2u] * valid.z) + weighted(n, weights[at.w + 2u] * valid.w);
                    fourth += weighted(k, weights[at.x + 3u]) + weighted(l, weights[at.y + 3u] * valid.y)
                        + weighted(m, weights[at.z + 3u] * valid.z) + weighted(n, weights[at.w + 3u] * valid.w);
                }
            }
        }
        workgroupBarrier();
    }

    // Adds up the partial sums of the TURNS threads. The memory of the queries is reused, as they are no longer needed.
    for (var t = 1u; t < TURNS; t++) {
        if turn == t {
            send(first, 0u, quad);
            if FOURS > 1u {
                send(second, 1u % FOURS, quad);
            }
            if FOURS > 2u {
                send(third, 2u % FOURS, quad);
                send(fourth, 3u % FOURS, quad);
            }
        }
        workgroupBarrier();
        if turn == 0u {
            first = received(first, 0u, quad);
            if FOURS > 1u {
                second = received(second, 1u % FOURS, quad);
            }
            if FOURS > 2u {
                third = received(third, 2u % FOURS, quad);
                fourth = received(fourth, 3u % FOURS, quad);
            }
        }
        workgroupBarrier();
    }
    of_threads[lane] = sum;
    workgroupBarrier();
    if part == 0u {
        var total = 0.0;
        for (var i = 0u; i < STRIDE; i++) {
            total += of_threads[i * FOURS + mine / 4u][mine % 4u];
        }
        totals[mine] = total;
    }
    workgroupBarrier();
    if turn != 0u {
        return;
    }
    write_four(0u, quad, group, first);
    if FOURS > 1u {
        write_four(1u, quad, group, second);
    }
    if FOURS > 2u {
        write_four(2u, quad, group, third);
        write_four(3u, quad, group, fourth);
    }
}
