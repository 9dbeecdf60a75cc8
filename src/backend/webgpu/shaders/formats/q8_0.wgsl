fn packed(unit: u32) -> Packed {
    let first = codes[2u * unit];
    let second = codes[2u * unit + 1u];
    let scale = vec2<f32>(half_at(shape.scales, unit));
    return Packed(first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w, scale, vec2<f32>(0.0));
}
