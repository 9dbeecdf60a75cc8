fn halves(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<vec2<f16>>(word));
}
