// The activations of the next THREADS units, for `matvec.wgsl`, in workgroup memory. A thread needs 32 neighbouring columns: if it read them
// from the input, each load would touch a different cache line for every thread of a subgroup.
//
// THREADS is a multiple of eight, so that the units of whole blocks of 256 columns are staged together: then every format's units lie in as
// many neighbouring columns.

var<workgroup> staged: array<vec4<f32>, 8u * THREADS>;

// Index of a group of four columns in workgroup memory. Permuted, so that threads that read the same column of neighbouring units do not
// cause bank conflicts.
fn place_of(column: u32) -> u32 {
    return column ^ ((column >> 3u) & 7u);
}

// Loads the units from `first` on. Columns behind the last one are loaded like the last one, and are not used.
fn stage(token: u32, first: u32, lane: u32) {
    let base = token * shape.columns;
    let last = base + shape.columns - 1u;
    let at = base + first * 8u + lane;
    let a = input[min(at, last)];
    let b = input[min(at + THREADS, last)];
    let c = input[min(at + 2u * THREADS, last)];
    let d = input[min(at + 3u * THREADS, last)];
    let e = input[min(at + 4u * THREADS, last)];
    let f = input[min(at + 5u * THREADS, last)];
    let g = input[min(at + 6u * THREADS, last)];
    let h = input[min(at + 7u * THREADS, last)];
    // The threads may still be reading the units before.
    workgroupBarrier();
    staged[place_of(lane)] = a;
    staged[place_of(lane + THREADS)] = b;
    staged[place_of(lane + 2u * THREADS)] = c;
    staged[place_of(lane + 3u * THREADS)] = d;
    staged[place_of(lane + 4u * THREADS)] = e;
    staged[place_of(lane + 5u * THREADS)] = f;
    staged[place_of(lane + 6u * THREADS)] = g;
    staged[place_of(lane + 7u * THREADS)] = h;
    workgroupBarrier();
}

// A group of four columns, counted from the first one that is staged.
fn activation(column: u32) -> vec4<f32> {
    return staged[place_of(column)];
}
