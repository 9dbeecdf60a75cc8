// Four f16 numbers of the KV cache, on adapters with `shader-f16`.
alias Quad = vec4<f16>;

fn four(quad: Quad) -> vec4<f32> {
    return vec4<f32>(quad);
}
