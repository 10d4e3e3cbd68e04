// A quad's products, before the scale.
fn dot_quad(unit: Unit, quad: u32, v: vec4<f32>) -> f32 { return dot(unscaled_quad(unit, quad), v); }
