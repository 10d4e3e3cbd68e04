// A unit's products: value by value.
fn dot_unit(unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  let low = dot(unpack_quad(unit, 0u), v[0]) + dot(unpack_quad(unit, 1u), v[1])
    + dot(unpack_quad(unit, 2u), v[2]) + dot(unpack_quad(unit, 3u), v[3]);
  let high = dot(unpack_quad(unit, 4u), v[4]) + dot(unpack_quad(unit, 5u), v[5])
    + dot(unpack_quad(unit, 6u), v[6]) + dot(unpack_quad(unit, 7u), v[7]);
  return low + high;
}
