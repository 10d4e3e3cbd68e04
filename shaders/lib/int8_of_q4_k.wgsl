// Integer products with q4_K: values are scale * code - minimum.
fn code_word(unit: Unit, quad: u32) -> u32 { return code_bytes(unit.codes, quad); }

fn weighed_codes(unit: Unit, low: i32, high: i32, x_sum: f32) -> f32 {
  return unit.scale.x * f32(low + high) - unit.scale.y * x_sum;
}
