// A product's input, four values at a time.
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;  // [tokens, k], padded with zeros to whole units

fn load_x(at: u32) -> vec4<f32> { return x[at]; }

// One value.
fn value(at: u32) -> f32 { return x[at / 4u][at % 4u]; }
