// Integer products with q6_K: values are scale * (code - 32), with one scale per half unit. The top bit of each byte keeps the
// subtraction from borrowing from the next byte.
fn code_word(unit: Unit, quad: u32) -> u32 {
  return ((quad_bytes(unit, quad) | 0x80808080u) - 0x20202020u) ^ 0x80808080u;
}

fn weighed_codes(unit: Unit, low: i32, high: i32, x_sum: f32) -> f32 {
  return unit.scale.x * f32(low) + unit.scale.y * f32(high);
}
