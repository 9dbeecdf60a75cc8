// Formats whose units are 32 consecutive columns.

fn columns_of(unit: u32) -> vec2<u32> {
    return vec2<u32>(unit * 8u, unit * 8u + 4u);
}
