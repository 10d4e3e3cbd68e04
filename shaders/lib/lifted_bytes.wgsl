// Codes of up to 8 bits, one per byte, as floats without integer conversion: a code keeps its bit position in the 23-bit mantissa of
// 2^23, which multiplies (lifts) it by a power of two.
fn lifted_bytes(word: u32) -> vec4<f32> {
  let mask = vec4<u32>(0x00ffu, 0xff00u, 0x00ffu, 0xff00u);
  return bitcast<vec4<f32>>((vec4<u32>(word, word, word >> 16u, word >> 16u) & mask) | vec4<u32>(0x4b000000u));
}

// 2^23 plus `zero`, lifted as the codes are.
fn byte_lift_of(zero: f32) -> vec4<f32> { return vec4<f32>(0x1p23) + zero * vec4<f32>(1.0, 0x1p8, 1.0, 0x1p8); }

// Undoes the lift.
const BYTE_DOWN: vec4<f32> = vec4<f32>(1.0, 0x1p-8, 1.0, 0x1p-8);
