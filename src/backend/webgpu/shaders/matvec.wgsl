// Matrix × vector, for few tokens. THREADS threads compute four rows for one token, and a workgroup has GROUPS such groups of threads.
// Neighbouring threads read neighbouring units, so that loads of codes are coalesced. Each thread uses its activations (`activations.wgsl`)
// for all four rows.

// The sum of the components.
fn total(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

@compute @workgroup_size(THREADS * GROUPS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS) {
    SUBGROUP_START
    prepare(index);
    let token = group.y;
    let lane = index % THREADS;
    let row = (group.x * GROUPS + index / THREADS) * 4u;
    // Threads beyond the last row compute the last row again and do not write it.
    let starts = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(shape.rows - 1u)) * shape.units;
    var sums = vec4<f32>();
    for (var first = 0u; first < shape.units; first += THREADS) {
        stage(token, first, lane);
        let unit = first + lane;
        if unit < shape.units {
            let x = activations(columns_of(unit) - vec2<u32>(first * 8u));
            sums += vec4<f32>(
                times(starts.x + unit, x),
                times(starts.y + unit, x),
                times(starts.z + unit, x),
                times(starts.w + unit, x),
            );
        }
    }
    let result = reduce(sums, lane);
    for (var i = lane; i < 4u; i += THREADS) {
        if row + i < shape.rows {
            finish(row + i, token, result[i]);
        }
    }
}
