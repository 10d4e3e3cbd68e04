// Packs values as bf16, which must hold them exactly: the lower halves are dropped.
const WORD_VALUES: u32 = 2u;
fn pack(values: vec2<f32>) -> u32 {
  let bits = bitcast<vec2<u32>>(values);
  return (bits.x >> 16u) | (bits.y & 0xffff0000u);
}
