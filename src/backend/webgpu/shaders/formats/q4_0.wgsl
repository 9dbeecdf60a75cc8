fn packed(unit: u32) -> Packed {
    let scale = vec2<f32>(half_at(shape.scales, unit));
    return nibbles(codes[unit], scale, -8.0 * scale);
}
