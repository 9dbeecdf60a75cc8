// Four f16 numbers of the KV cache, on adapters without `shader-f16`.
alias Quad = vec2<u32>;

fn four(quad: Quad) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y));
}
