// The products of 16 values of a unit, before the scale.
fn dot_low(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  return dot_quad(unit, 0u, v[0]) + dot_quad(unit, 1u, v[1]) + dot_quad(unit, 2u, v[2]) + dot_quad(unit, 3u, v[3]);
}

fn dot_high(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  return dot_quad(unit, 4u, v[4]) + dot_quad(unit, 5u, v[5]) + dot_quad(unit, 6u, v[6]) + dot_quad(unit, 7u, v[7]);
}
