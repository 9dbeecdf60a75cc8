// Combines the results of the workgroups of `attention.wgsl`, each of which computed a part of the positions. A workgroup per head and row.

// [rows, HEADS, splits, HEAD_QUADS + 1], as `attention.wgsl` writes it.
@group(1) @binding(0) var<storage, read> partials: array<vec4<f32>>;
// [rows, HEADS, HEAD_QUADS]
@group(1) @binding(1) var<storage, read_write> attended: array<vec4<f32>>;

// The largest score of a split and the sum of its exponentials.
var<workgroup> ends: array<vec2<f32>, MAX_SPLITS>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) quad: u32) {
    let index = group.y * HEADS + group.x;
    let first = index * job.splits;
    for (var split = quad; split < job.splits; split += 64u) {
        ends[split] = partials[(first + split) * (HEAD_QUADS + 1u) + HEAD_QUADS].xy;
    }
    workgroupBarrier();
    if quad >= HEAD_QUADS {
        return;
    }
    var largest = -3.0e38;
    for (var split = 0u; split < job.splits; split++) {
        largest = max(largest, ends[split].x);
    }
    var sum = 0.0;
    var value = vec4<f32>();
    // Four splits at once, so that a thread waits once for four loads. Those behind the last one count nothing.
    for (var split = 0u; split < job.splits; split += 4u) {
        let splits = vec4<u32>(split) + vec4<u32>(0u, 1u, 2u, 3u);
        let valid = min(splits, vec4<u32>(job.splits - 1u));
        let at = (vec4<u32>(first) + valid) * (HEAD_QUADS + 1u) + vec4<u32>(quad);
        let a = partials[at.x];
        let b = partials[at.y];
        let c = partials[at.z];
        let d = partials[at.w];
        let scores = vec4<f32>(ends[valid.x].x, ends[valid.y].x, ends[valid.z].x, ends[valid.w].x);
        let sums = vec4<f32>(ends[valid.x].y, ends[valid.y].y, ends[valid.z].y, ends[valid.w].y);
        let factors = select(vec4<f32>(), exp(scores - largest), splits < vec4<u32>(job.splits));
        sum += dot(factors, sums);
        value += factors.x * a + factors.y * b + factors.z * c + factors.w * d;
    }
    attended[(job.first_row * HEADS + index) * HEAD_QUADS + quad] = value / sum;
}
