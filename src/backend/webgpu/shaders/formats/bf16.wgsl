// Four bf16 numbers. A bf16 number is the upper half of an f32.
fn four(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn unpack(unit: u32) -> Unit {
    let w = codes[4u * unit];
    let x = codes[4u * unit + 1u];
    let y = codes[4u * unit + 2u];
    let z = codes[4u * unit + 3u];
    return Unit(
        four(w.x, w.y),
        four(w.z, w.w),
        four(x.x, x.y),
        four(x.z, x.w),
        four(y.x, y.y),
        four(y.z, y.w),
        four(z.x, z.y),
        four(z.z, z.w),
        vec2<f32>(1.0),
        vec2<f32>(0.0),
    );
}
