// Scale and minimum of a group of 32 values of q4_K and q5_K. A block of 8 groups has 16 bytes: two f16 scales, the low four
// bits of the groups' scales, those of their minima, then the upper two bits of each.
fn group_scale(bits: vec4<u32>, group: u32) -> vec2<f32> {
  let low = (bits.yz >> vec2<u32>(4u * group)) & vec2<u32>(15u);
  let high = (vec2<u32>(bits.w) >> vec2<u32>(2u * group, 2u * group + 16u)) & vec2<u32>(3u);
  return unpack2x16float(bits.x) * vec2<f32>(low | (high << vec2<u32>(4u)));
}
