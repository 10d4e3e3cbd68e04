// Adds a unit's products to a sum, half by half. Sums run in the order of the quads, here and in add_quads.wgsl.
const HALVES: u32 = 2u;
const HALF_QUADS: u32 = 4u;

fn dot_unit(sum: f32, unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  let low = dot_quad(unit, 0u, v[0]) + dot_quad(unit, 1u, v[1]) + dot_quad(unit, 2u, v[2]) + dot_quad(unit, 3u, v[3]);
  let high = dot_quad(unit, 4u, v[4]) + dot_quad(unit, 5u, v[5]) + dot_quad(unit, 6u, v[6]) + dot_quad(unit, 7u, v[7]);
  let x_low = total_of_quad(v[0]) + total_of_quad(v[1]) + total_of_quad(v[2]) + total_of_quad(v[3]);
  let x_high = total_of_quad(v[4]) + total_of_quad(v[5]) + total_of_quad(v[6]) + total_of_quad(v[7]);
  return weighed(weighed(sum, unit, 0u, low, x_low), unit, 1u, high, x_high);
}

fn total_of_quad(v: vec4<f32>) -> f32 { return dot(v, vec4<f32>(1.0)); }
