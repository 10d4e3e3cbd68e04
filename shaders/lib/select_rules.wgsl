// A slot's sampling parameters, keys that order like logits, and the random bits of a position.
struct SamplingParams {
  temperature: f32,  // 0: the largest logit
  top_k: u32,        // 0: all
  top_p: f32,        // 1: all
  log_min_p: f32,    // ln(min_p); -inf: all
  seed_low: u32,
  seed_high: u32,
  repeat_penalty: f32,     // divides positive logits of recent tokens, multiplies negative ones; 1: none
  presence_penalty: f32,   // subtracted once for each recent token
  frequency_penalty: f32,  // subtracted for each occurrence of a recent token
  window: u32,             // tokens that count as recent; 0: no penalties
  unused_a: u32,
  unused_b: u32,
}

const KEY_NEG_INF: u32 = 0x007fffffu;
const KEY_MAX: u32 = 0xff7fffffu;     // the largest finite float

fn cuts_by_rank(rules: SamplingParams) -> bool {
  return rules.temperature > 0.0 && rules.top_k > 0u && rules.top_k < params.vocab;
}
fn cuts_by_mass(rules: SamplingParams) -> bool { return rules.temperature > 0.0 && rules.top_p < 1.0; }

// Orders like floats, with one key for both zeros; NaN is above every number.
fn key_of(v: f32) -> u32 {
  let bits = select(bitcast<u32>(v), 0u, v == 0.0);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn value_of(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u)); }

// pcg4d of Jarzynski and Olano, "Hash Functions for GPU Rendering" (2020): random bits from counters alone.
fn pcg4d(seed: vec4<u32>) -> vec4<u32> {
  var v = seed * 1664525u + 1013904223u;
  v += v.yzxy * v.wxyz;
  v ^= v >> vec4<u32>(16u);
  v += v.yzxy * v.wxyz;
  return v;
}

struct Chooser {
  entry: RowEntry,
  rules: SamplingParams,
}
var<workgroup> chooser_of_row: Chooser;

// The row table entry and the sampling parameters of a row of the step; the same for all lanes.
fn chooser(row: u32, lane: u32) -> Chooser {
  if (lane == 0u) {
    let entry = rows[batch.entry + row];
    chooser_of_row = Chooser(entry, sampling[entry.slot]);
  }
  return workgroupUniformLoad(&chooser_of_row);
}
