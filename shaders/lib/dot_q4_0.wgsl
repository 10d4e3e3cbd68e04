// A quad's products, before the scale.
fn dot_quad(unit: Unit, quad: u32, v: vec4<f32>) -> f32 {
  return dot_lowered(lifted_codes(unit.codes, quad) - lift_of(8.0, quad), lift_down(quad), v);
}
