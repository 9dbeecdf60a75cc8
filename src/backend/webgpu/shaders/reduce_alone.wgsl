// For THREADS = 1: every thread already has its complete sum.

fn reduce(value: vec4<f32>, lane: u32) -> vec4<f32> {
    return value;
}
