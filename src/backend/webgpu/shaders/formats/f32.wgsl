fn unpack(unit: u32) -> Unit {
    var result: Unit;
    result.scale = vec2<f32>(1.0);
    result.offset = vec2<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
        result.first[i] = bitcast<vec4<f32>>(codes[8u * unit + i]);
        result.second[i] = bitcast<vec4<f32>>(codes[8u * unit + 4u + i]);
    }
    return result;
}
