// The sum over the threads of a workgroup: within each subgroup by `subgroupAdd`, then over the subgroups through workgroup memory.

var<workgroup> partial: array<vec4<f32>, THREADS>;
var<private> subgroup: u32;
var<private> subgroups: u32;
var<private> place: u32;

fn reduce(value: vec4<f32>, lane: u32) -> vec4<f32> {
    let sum = subgroupAdd(value);
    if place == 0u {
        partial[subgroup] = sum;
    }
    workgroupBarrier();
    var total = partial[0];
    for (var i = 1u; i < subgroups; i++) {
        total += partial[i];
    }
    return total;
}
