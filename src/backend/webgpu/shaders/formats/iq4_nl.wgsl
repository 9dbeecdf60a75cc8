fn packed(unit: u32) -> Packed {
    return nibbles(codes[unit], vec2<f32>(half_at(shape.scales, unit)), vec2<f32>(0.0));
}
