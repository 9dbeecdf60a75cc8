// The largest logit of each row: like `top_k.wgsl`, for one candidate.

@group(1) @binding(0) var<storage, read> input: array<u32>;
// [rows, segments]: ordered bits and id.
@group(1) @binding(1) var<storage, read_write> output: array<vec2<u32>>;

var<workgroup> keys: array<vec2<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var best = vec2<u32>(0u, 0xffffffffu);
    for (var i = lane; i < SEGMENT; i += 256u) {
        let index = group.x * SEGMENT + i;
        if index < job.count {
            let at = group.y * job.count + index;
            var key = vec2<u32>();
            if FIRST {
                key = vec2<u32>(ordered(input[at]), index);
            } else {
                key = vec2<u32>(input[2u * at], input[2u * at + 1u]);
            }
            if precedes(key, best) {
                best = key;
            }
        }
    }
    keys[lane] = best;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half && precedes(keys[lane + half], keys[lane]) {
            keys[lane] = keys[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        output[group.y * groups.x + group.x] = keys[0];
    }
}
