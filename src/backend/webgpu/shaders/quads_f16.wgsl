// Four f16 numbers of the cache, where the adapter has them as numbers.
alias Quad = vec4<f16>;

fn four(quad: Quad) -> vec4<f32> {
    return vec4<f32>(quad);
}
