// Chooses each row's next token and writes it into the row table, one workgroup a row.
// Order: bias, penalties, then top-k, top-p and min-p on the probabilities, then temperature, then one draw.
// Thresholds are found by bisection on keys that order as the logits do, so nothing is sorted; equal logits stand or fall
// together.
struct Params {
  vocab: u32,
  stride: u32,     // floats from one version of a slot's logits to the next
  versions: u32,   // versions of a slot's logits
}
struct Sampling {
  temperature: f32,  // 0: the largest logit
  top_k: u32,        // 0: all
  top_p: f32,        // 1: all
  log_min_p: f32,    // ln(min_p); -inf: all
  seed_low: u32,
  seed_high: u32,
  repeat_penalty: f32,     // divides positive logits of recent tokens, multiplies negative ones; 1: none
  presence_penalty: f32,   // taken off once from each recent token
  frequency_penalty: f32,  // taken off for each time a recent token stands there
  window: u32,             // tokens that count as recent; 0: no penalties
  unused_a: u32,
  unused_b: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> logits: array<f32>;         // [slot][version][vocab]
@group(0) @binding(3) var<storage, read> bias: array<f32>;           // [slot][vocab], added to the logits; -inf bans
@group(0) @binding(4) var<storage, read> sampling: array<Sampling>;  // [slot]
@group(0) @binding(5) var<storage, read_write> recent: array<u32>;   // [slot][WINDOW ids by position | a count for each id]
@group(0) @binding(6) var<storage, read_write> rows: array<Row>;     // the row table
@group(0) @binding(7) var<storage, read_write> chosen: array<u32>;   // [rows]: an id, or one of the two marks below

const NOT_FINITE: u32 = 0xffffffffu;  // a logit is NaN or +inf
const ALL_BANNED: u32 = 0xfffffffeu;  // every logit is -inf
const KEY_NEG_INF: u32 = 0x007fffffu;
const KEY_MAX: u32 = 0xff7fffffu;     // the largest finite float

var<workgroup> entry_of_row: Row;
var<workgroup> best: array<vec2<u32>, WG>;   // key, id
var<workgroup> masses: array<f32, WG>;

// Orders as floats do; NaN comes out above every number.
fn key_of(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return NOT_FINITE; }
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

// pcg4d of Jarzynski and Olano, "Hash Functions for GPU Rendering" (2020): random bits from counters alone.
fn pcg4d(seed: vec4<u32>) -> vec4<u32> {
  var v = seed * 1664525u + 1013904223u;
  v += v.yzxy * v.wxyz;
  v ^= v >> vec4<u32>(16u);
  v += v.yzxy * v.wxyz;
  return v;
}

var<private> logits_at: u32;
var<private> bias_at: u32;
var<private> recent_at: u32;
var<private> rules: Sampling;

// The logit of an id with its bias and, where it is recent, its penalties.
fn logit(id: u32) -> f32 {
  var v = logits[logits_at + id] + bias[bias_at + id];
  if (rules.window > 0u) {
    let count = recent[recent_at + WINDOW + id];
    if (count > 0u) {
      v = select(v / rules.repeat_penalty, v * rules.repeat_penalty, v <= 0.0);
      v -= f32(count) * rules.frequency_penalty + rules.presence_penalty;
    }
  }
  return v;
}

// The token at `position` is now `id`, and the one that leaves the window counts no more.
fn remember(position: u32, id: u32) {
  let place = recent_at + position % rules.window;
  let leaving = recent[place];
  if (leaving < params.vocab) { recent[recent_at + WINDOW + leaving] -= 1u; }
  recent[place] = id;
  recent[recent_at + WINDOW + id] += 1u;
}

@compute @workgroup_size(WG)
fn select_token(lanes: Lanes) {
  let row = lanes.group.x;
  let entry = batch.entry + row;
  if (lanes.index == 0u) { entry_of_row = rows[entry]; }
  let now = workgroupUniformLoad(&entry_of_row);
  let slot = now.slot;
  logits_at = (slot * params.versions + (now.version + batch.advance) % params.versions) * params.stride;
  bias_at = slot * params.vocab;
  recent_at = slot * (WINDOW + params.vocab);
  rules = sampling[slot];

  // The largest logit, the lowest id among equals.
  var mine = vec2<u32>(0u, params.vocab);
  for (var i = lanes.index; i < params.vocab; i += WG) {
    let key = key_of(logit(i));
    if (key > mine.x) { mine = vec2<u32>(key, i); }
  }
  best[lanes.index] = mine;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (lanes.index < half) {
      let other = best[lanes.index + half];
      let own = best[lanes.index];
      if (other.x > own.x || (other.x == own.x && other.y < own.y)) { best[lanes.index] = other; }
    }
    workgroupBarrier();
  }
  let top = best[0];
  let largest = bitcast<f32>(select(~top.x, top.x & 0x7fffffffu, (top.x >> 31u) == 1u));

  // The smallest key that stays. Each bit is kept while enough (tokens, then mass) still lies at or above.
  var kept = 0u;
  if (rules.temperature > 0.0 && rules.top_k > 0u && rules.top_k < params.vocab) {
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
      var count = 0.0;
      for (var i = lanes.index; i < params.vocab; i += WG) {
        if (key_of(logit(i)) >= (kept | bit)) { count += 1.0; }
      }
      if (workgroup_sum(count, lanes) >= f32(rules.top_k)) { kept |= bit; }
    }
  }
  if (rules.temperature > 0.0 && rules.top_p < 1.0) {
    var own_mass = 0.0;
    for (var i = lanes.index; i < params.vocab; i += WG) {
      let v = logit(i);
      if (key_of(v) >= kept) { own_mass += exp(v - largest); }
    }
    let wanted = rules.top_p * workgroup_sum(own_mass, lanes);
    var threshold = 0u;
    for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
      var mass = 0.0;
      for (var i = lanes.index; i < params.vocab; i += WG) {
        let v = logit(i);
        if (key_of(v) >= max(kept, threshold | bit)) { mass += exp(v - largest); }
      }
      if (workgroup_sum(mass, lanes) >= wanted) { threshold |= bit; }
    }
    kept = max(kept, min(threshold, top.x));
  }

  // The draw: where a uniform number falls in the running sum of exp((v - largest) / temperature), in order of ids.
  // Each lane sums a run of neighbouring ids; lane 0 finds the run, then the id in it.
  let run = (params.vocab + WG - 1u) / WG;
  let first = lanes.index * run;
  let end = min(params.vocab, first + run);
  var own_mass = 0.0;
  if (rules.temperature > 0.0) {
    for (var i = first; i < end; i++) {
      let v = logit(i);
      if (key_of(v) >= kept && v - largest >= rules.log_min_p) { own_mass += exp((v - largest) / rules.temperature); }
    }
  }
  masses[lanes.index] = own_mass;
  workgroupBarrier();
  if (lanes.index != 0u) { return; }

  let position = now.position + batch.advance;
  var id = top.y;
  if (rules.temperature > 0.0) {
    var total = 0.0;
    for (var i = 0u; i < WG; i++) { total += masses[i]; }
    let random = pcg4d(vec4<u32>(rules.seed_low, rules.seed_high, position, 0u)).x;
    let target_mass = f32(random >> 8u) * exp2(-24.0) * total;
    var below = 0.0;
    var chosen_run = 0u;
    for (; chosen_run + 1u < WG && below + masses[chosen_run] <= target_mass; chosen_run++) { below += masses[chosen_run]; }
    // Rounding can carry the target past the last run with any mass; the largest logit is then as good as any.
    for (var i = chosen_run * run; i < min(params.vocab, (chosen_run + 1u) * run); i++) {
      let v = logit(i);
      if (key_of(v) >= kept && v - largest >= rules.log_min_p) {
        id = i;
        below += exp((v - largest) / rules.temperature);
        if (below > target_mass) { break; }
      }
    }
  }
  if (top.x <= KEY_NEG_INF) { id = ALL_BANNED; }
  if (top.x > KEY_MAX) { id = NOT_FINITE; }
  if (rules.window > 0u && id < params.vocab) { remember(position, id); }
  chosen[row] = id;
  rows[entry].id = min(id, params.vocab - 1u);
  rows[entry].position = position;
  rows[entry].version += batch.advance;
}
