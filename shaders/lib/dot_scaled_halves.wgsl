// A unit's products where each half of its values has a scale.
fn dot_unit(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  return unit.scale.x * dot_low(unit, v) + unit.scale.y * dot_high(unit, v);
}
