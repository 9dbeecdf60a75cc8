// Combines the results of the workgroups of `attention.wgsl`, each of which computed a part of the positions. A workgroup per head and row.

// [rows, HEADS, splits, HEAD_QUADS + 1], as `attention.wgsl` writes it.
@group(1) @binding(0) var<storage, read> partials: array<vec4<f32>>;
// [rows, HEADS, HEAD_QUADS]
@group(1) @binding(1) var<storage, read_write> attended: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) quad: u32) {
    if quad >= HEAD_QUADS {
        return;
    }
    let index = group.y * HEADS + group.x;
    var largest = -3.0e38;
    for (var split = 0u; split < job.splits; split++) {
        largest = max(largest, partials[(index * job.splits + split) * (HEAD_QUADS + 1u) + HEAD_QUADS].x);
    }
    var sum = 0.0;
    var value = vec4<f32>();
    for (var split = 0u; split < job.splits; split++) {
        let source = (index * job.splits + split) * (HEAD_QUADS + 1u);
        let end = partials[source + HEAD_QUADS];
        let factor = exp(end.x - largest);
        sum += factor * end.y;
        value += factor * partials[source + quad];
    }
    attended[(job.first_row * HEADS + index) * HEAD_QUADS + quad] = value / sum;
}
