fn unpack(unit: u32) -> Unit {
    let first = codes[2u * unit];
    let second = codes[2u * unit + 1u];
    var result: Unit;
    result.scale = vec2<f32>(half_at(shape.scales, unit));
    result.offset = vec2<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        result.first[i] = signed_bytes(first[i]);
        result.second[i] = signed_bytes(second[i]);
    }
    return result;
}
