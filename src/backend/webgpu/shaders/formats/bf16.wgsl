fn four(low: u32, high: u32) -> vec4<f32> {
    // The upper half of an f32.
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn unpack(unit: u32) -> Unit {
    var result: Unit;
    result.scale = vec2<f32>(1.0);
    result.offset = vec2<f32>(0.0);
    for (var i = 0u; i < 2u; i++) {
        let first = codes[4u * unit + i];
        let second = codes[4u * unit + 2u + i];
        result.first[2u * i] = four(first.x, first.y);
        result.first[2u * i + 1u] = four(first.z, first.w);
        result.second[2u * i] = four(second.x, second.y);
        result.second[2u * i + 1u] = four(second.z, second.w);
    }
    return result;
}
