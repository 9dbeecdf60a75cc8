// The sum over the threads of a workgroup, through workgroup memory.

var<workgroup> partial: array<vec4<f32>, THREADS>;

fn reduce(value: vec4<f32>, lane: u32) -> vec4<f32> {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half = half / 2u) {
        if lane < half {
            partial[lane] = partial[lane] + partial[lane + half];
        }
        workgroupBarrier();
    }
    return partial[0];
}
