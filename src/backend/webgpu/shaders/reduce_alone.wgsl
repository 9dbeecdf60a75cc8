// Every thread has its sum already.

fn reduce(value: vec4<f32>, lane: u32) -> vec4<f32> {
    return value;
}
