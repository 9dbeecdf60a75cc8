// The largest logits of each row. Every workgroup sorts 1024 logits and keeps the first `wanted` as candidates. Further passes do the same
// with the candidates, until one workgroup is left. Equal logits are ordered by id.

// In the first pass the bits of the logits, in further passes pairs of ordered bits and id.
@group(1) @binding(0) var<storage, read> input: array<u32>;
// [rows, segments, wanted]
@group(1) @binding(1) var<storage, read_write> output: array<vec2<u32>>;

var<workgroup> keys: array<vec2<u32>, SEGMENT>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < SEGMENT; i += 256u) {
        let index = group.x * SEGMENT + i;
        var key = vec2<u32>(0u, 0xffffffffu);
        if index < job.count {
            let at = group.y * job.count + index;
            if FIRST {
                key = vec2<u32>(ordered(input[at]), index);
            } else {
                key = vec2<u32>(input[2u * at], input[2u * at + 1u]);
            }
        }
        keys[i] = key;
    }
    workgroupBarrier();
    // Bitonic sort.
    for (var size = 2u; size <= SEGMENT; size *= 2u) {
        for (var stride = size / 2u; stride > 0u; stride /= 2u) {
            for (var i = lane; i < SEGMENT / 2u; i += 256u) {
                let low = i / stride * stride * 2u + i % stride;
                let high = low + stride;
                let a = keys[low];
                let b = keys[high];
                let descending = (low & size) == 0u;
                if precedes(b, a) == descending {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            workgroupBarrier();
        }
    }
    for (var i = lane; i < job.wanted; i += 256u) {
        output[(group.y * groups.x + group.x) * job.wanted + i] = keys[i];
    }
}
