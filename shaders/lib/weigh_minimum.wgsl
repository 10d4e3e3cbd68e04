// Adds half a unit's products to a sum: values are scale * code - minimum, and the minimum is subtracted through the sum of x,
// which all rows share.
fn weighed(sum: f32, unit: Unit, half: u32, products: f32, x: f32) -> f32 {
  return sum + unit.scale.x * products - unit.scale.y * x;
}
