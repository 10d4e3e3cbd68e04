// A unit is 32 codes of 4 bits: byte i has code i in its low half and code i + 16 in its high half.
fn nibbles(bits: vec4<u32>, quad: u32) -> vec4<u32> {
  let shift = 4u * (quad / 4u);
  return (vec4<u32>(bits[quad % 4u]) >> vec4<u32>(shift, shift + 8u, shift + 16u, shift + 24u)) & vec4<u32>(15u);
}
