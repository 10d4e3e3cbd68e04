// Adds half a unit's products to a sum: each half has a scale.
fn weighed(sum: f32, unit: Unit, half: u32, products: f32, x: f32) -> f32 {
  return sum + select(unit.scale.x, unit.scale.y, half == 1u) * products;
}
