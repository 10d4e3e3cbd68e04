// Adds a unit's products to a sum.
const HALVES: u32 = 1u;
const HALF_QUADS: u32 = 2u;

fn dot_unit(sum: f32, unit: Unit, v: array<vec4<f32>, QUADS>) -> f32 {
  return sum + (dot(unpack_quad(unit, 0u), v[0]) + dot(unpack_quad(unit, 1u), v[1]));
}

fn weight_quad(unit: Unit, quad: u32) -> vec4<f32> { return unpack_quad(unit, quad); }
fn weighed(sum: f32, unit: Unit, half: u32, products: f32, x: f32) -> f32 { return sum + products; }
fn total_of_quad(v: vec4<f32>) -> f32 { return 0.0; }
