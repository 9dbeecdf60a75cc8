// Formats whose bytes, as `packed` returns them, are indices into `TABLE`. A thread reads neighbouring entries for neighbouring codes, so the
// table is in workgroup memory: there 16 words are in 16 banks, and no two threads wait for each other.

var<workgroup> table: array<i32, 16>;

// Call it at the start of a shader, in every thread of the workgroup. `index`: that of the thread.
fn prepare(index: u32) {
    if index == 0u {
        table = TABLE;
    }
    workgroupBarrier();
}
