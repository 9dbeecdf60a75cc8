// Common to Q4_K and Q5_K: a block has 256 columns in eight parts, whose six-bit scales and offsets are packed into 12 bytes.

// The low nibbles of a unit's 16 bytes hold 16 columns of an even part, the high nibbles those of the next part.
fn columns_of(unit: u32) -> vec2<u32> {
    let pair = unit / 2u % 4u;
    let first = unit / 8u * 64u + pair * 16u + unit % 2u * 4u;
    return vec2<u32>(first, first + 8u);
}

// The integer scale and offset of one part. `bytes`: the 12 bytes.
fn six_bit_pair(bytes: vec3<u32>, part: u32) -> vec2<f32> {
    let shift = part % 4u * 8u;
    if part < 4u {
        return vec2<f32>(f32((bytes.x >> shift) & 63u), f32((bytes.y >> shift) & 63u));
    }
    let both = bytes.z >> shift;
    let scale = (both & 15u) | (((bytes.x >> (shift + 6u)) & 3u) << 4u);
    let offset = ((both >> 4u) & 15u) | (((bytes.y >> (shift + 6u)) & 3u) << 4u);
    return vec2<f32>(f32(scale), f32(offset));
}

// The scales of a unit's two parts, then their offsets.
fn k_scales(unit: u32) -> vec4<f32> {
    let head = codes[shape.scales / 4u + unit / 8u];
    let numbers = halves(head.x);
    let part = unit / 2u % 4u * 2u;
    let first = six_bit_pair(head.yzw, part);
    let second = six_bit_pair(head.yzw, part + 1u);
    return vec4<f32>(numbers.x * first.x, numbers.x * second.x, -numbers.y * first.y, -numbers.y * second.y);
}
