// Probability masses as integers: their sums are exact in any order, so that a selection does not depend on how it is split. A mass
// of 1 is 2^(2 mass_bits), held as two words of mass_bits bits each, so that a word summed over all tokens fits into 32 bits.
// Sums of both words are an amount: 64 bits as (high, low).
fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.y + b.y;
  return vec2<u32>(a.x + b.x + select(0u, 1u, low < a.y), low);
}
fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x - select(0u, 1u, a.y < b.y), a.y - b.y);
}
fn below(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x < b.x || (a.x == b.x && a.y < b.y); }

fn amount(words: vec2<u32>) -> vec2<u32> {
  return plus(vec2<u32>(words.x >> (32u - params.mass_bits), words.x << params.mass_bits), vec2<u32>(0u, words.y));
}

// a * b in 64 bits.
fn product(a: u32, b: u32) -> vec2<u32> {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let first = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let second = (a & 0xffffu) * (b >> 16u) + (first & 0xffffu);
  return vec2<u32>((a >> 16u) * (b >> 16u) + (first >> 16u) + (second >> 16u), (second << 16u) | (low & 0xffffu));
}
// The integer part of a * share / 2^32.
fn part(a: vec2<u32>, share: u32) -> vec2<u32> {
  return plus(product(a.x, share), vec2<u32>(0u, product(a.y, share).x));
}
// The mass that the tokens kept by top-p must reach; at least 1, so that the best token always stays.
fn reach_of(rules: SamplingParams, total: vec2<u32>) -> vec2<u32> {
  let reach = part(total, u32(rules.top_p * 4294967296.0));
  return vec2<u32>(reach.x, select(reach.y, 1u, (reach.x | reach.y) == 0u));
}

fn words(log_mass: f32) -> vec2<u32> {
  let scale = f32(1u << params.mass_bits);
  let scaled = exp(log_mass) * scale;
  let high = floor(scaled);
  return vec2<u32>(u32(high), u32((scaled - high) * scale + 0.5));
}
// The probability of a key's token relative to the most probable one.
fn plain_words(key: u32, largest: f32) -> vec2<u32> {
  if (key <= KEY_NEG_INF) { return vec2<u32>(); }
  return words(value_of(key) - largest);
}
// The same in the draw: with temperature, and zero for tokens that were cut.
fn drawn_words(key: u32, kept: u32, largest: f32, rules: SamplingParams) -> vec2<u32> {
  let away = value_of(key) - largest;
  if (key <= KEY_NEG_INF || key < kept || away < rules.log_min_p) { return vec2<u32>(); }
  return words(away / rules.temperature);
}
