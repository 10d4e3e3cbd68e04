// Weights in units of 16 bytes, loaded as two 64-bit words: a CPU driver loads lane by lane at any width, so fewer loads are
// faster.
@group(1) @binding(0) var<storage, read> weight: array<vec2<u64>>;  // [rows, units a row]

fn words(long: u64) -> vec2<u32> { return vec2<u32>(u32(long), u32(long >> 32u)); }

fn load_bits(at: u32) -> vec4<u32> {
  let bits = weight[at];
  return vec4<u32>(words(bits.x), words(bits.y));
}

// One word of a unit.
fn load_word(at: u32, word: u32) -> u32 {
  let pair = load_pair(at, word / 2u);
  return select(pair.x, pair.y, word % 2u == 1u);
}

fn load_pair(at: u32, half: u32) -> vec2<u32> { return words(weight[at][half]); }
