// A unit's products where one scale belongs to all of its values: the scale is multiplied in once, after the sum.
fn unpack_quad(unit: Unit, quad: u32) -> vec4<f32> { return unit.scale * unscaled_quad(unit, quad); }

fn dot_unit(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  let low = dot(unscaled_quad(unit, 0u), v[0]) + dot(unscaled_quad(unit, 1u), v[1])
    + dot(unscaled_quad(unit, 2u), v[2]) + dot(unscaled_quad(unit, 3u), v[3]);
  let high = dot(unscaled_quad(unit, 4u), v[4]) + dot(unscaled_quad(unit, 5u), v[5])
    + dot(unscaled_quad(unit, 6u), v[6]) + dot(unscaled_quad(unit, 7u), v[7]);
  return unit.scale * (low + high);
}
