// A unit's products where values are scale * code - minimum: the minimum is taken off the sum of x, which all rows share.
fn dot_unit(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  let sum = ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
  return unit.scale.x * (dot_low(unit, v) + dot_high(unit, v)) - unit.scale.y * dot(sum, vec4<f32>(1.0));
}
