fn unpack(unit: u32) -> Unit {
    return Unit(
        bitcast<vec4<f32>>(codes[8u * unit + 0u]),
        bitcast<vec4<f32>>(codes[8u * unit + 1u]),
        bitcast<vec4<f32>>(codes[8u * unit + 2u]),
        bitcast<vec4<f32>>(codes[8u * unit + 3u]),
        bitcast<vec4<f32>>(codes[8u * unit + 4u]),
        bitcast<vec4<f32>>(codes[8u * unit + 5u]),
        bitcast<vec4<f32>>(codes[8u * unit + 6u]),
        bitcast<vec4<f32>>(codes[8u * unit + 7u]),
        vec2<f32>(1.0),
        vec2<f32>(0.0),
    );
}
