// Formats without a table (`table.wgsl`).

fn prepare(index: u32) {}
