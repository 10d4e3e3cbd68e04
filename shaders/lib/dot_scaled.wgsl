// A unit's products where one scale belongs to all of its values: the scale is multiplied in once, after the sum.
fn dot_unit(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 { return unit.scale * (dot_low(unit, v) + dot_high(unit, v)); }
