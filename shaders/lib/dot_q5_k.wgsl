// A quad's products, before scale and minimum.
fn dot_quad(unit: Unit, quad: u32, v: vec4<f32>) -> f32 {
  return dot_lowered(lifted_bytes(quad_bytes(unit, quad)) - byte_lift_of(0.0), BYTE_DOWN, v);
}
