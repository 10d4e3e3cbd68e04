// A quad's unscaled values.
fn dot_quad(unit: Unit, quad: u32, v: vec4<f32>) -> f32 { return dot(unscaled_quad(unit, quad), v); }

fn weight_quad(unit: Unit, quad: u32) -> vec4<f32> { return unscaled_quad(unit, quad); }
