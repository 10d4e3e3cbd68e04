// Weights in units of 16 bytes, loaded as four words.
@group(1) @binding(0) var<storage, read> weight: array<vec4<u32>>;  // [rows, units a row]

fn load_bits(at: u32) -> vec4<u32> { return weight[at]; }

// One word of a unit.
fn load_word(at: u32, word: u32) -> u32 { return weight[at][word]; }

fn load_pair(at: u32, half: u32) -> vec2<u32> {
  let bits = weight[at];
  return select(bits.xy, bits.zw, half == 1u);
}
