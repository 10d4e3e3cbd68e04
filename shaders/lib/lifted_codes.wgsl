// The 4-bit codes of a quad as floats, without a shift per code and without integer conversion, which GPUs do at a quarter of the
// rate: a code keeps its bit position in the 23-bit mantissa of 2^23, which multiplies (lifts) it by a power of two.
fn lifted_codes(bits: vec4<u32>, quad: u32) -> vec4<f32> {
  let word = bits[quad % 4u];
  let mask = vec4<u32>(0x000fu, 0x0f00u, 0x000fu, 0x0f00u) << vec4<u32>(4u * (quad / 4u));
  return bitcast<vec4<f32>>((vec4<u32>(word, word, word >> 16u, word >> 16u) & mask) | vec4<u32>(0x4b000000u));
}

// 2^23 plus `zero`, lifted as the codes are: subtracting it turns a lifted code c into a lifted c - zero. All are integers below 2^24.
fn lift_of(zero: f32, quad: u32) -> vec4<f32> {
  let lift = select(vec4<f32>(1.0, 0x1p8, 1.0, 0x1p8), vec4<f32>(0x1p4, 0x1p12, 0x1p4, 0x1p12), quad >= 4u);
  return vec4<f32>(0x1p23) + zero * lift;
}

// Undoes the lift.
fn lift_down(quad: u32) -> vec4<f32> {
  return select(vec4<f32>(1.0, 0x1p-8, 1.0, 0x1p-8), vec4<f32>(0x1p-4, 0x1p-12, 0x1p-4, 0x1p-12), quad >= 4u);
}
