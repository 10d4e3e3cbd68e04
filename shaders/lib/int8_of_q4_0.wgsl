// Integer products with q4_0: values are scale * (code - 8), and the 8 is subtracted through the sum of x.
fn code_word(unit: Unit, quad: u32) -> u32 { return code_bytes(unit.codes, quad); }

fn weighed_codes(unit: Unit, low: i32, high: i32, x_sum: f32) -> f32 {
  return unit.scale * (f32(low + high) - 8.0 * x_sum);
}
