// Selects each row's next token and writes it into the row table, one workgroup per row: for small vocabularies. Order: bias,
// penalties, then top-k, top-p and min-p on the probabilities, then temperature, then one draw. A threshold is found one byte
// of its key at a time, from tallies (histograms) of the tokens by the value of the byte, so nothing is sorted; equal logits
// are kept or cut together.
struct Params {
  vocab: u32,      // at most WG * LANE_IDS
  stride: u32,     // floats from one version of a slot's logits to the next
  versions: u32,   // versions of a slot's logits
  mass_bits: u32,  // bits of a word of mass
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> logits: array<f32>;         // [slot][version][vocab]
@group(0) @binding(3) var<storage, read> bias: array<f32>;           // [slot][vocab], added to the logits; -inf bans
@group(0) @binding(4) var<storage, read> sampling: array<SamplingParams>;  // [slot]
@group(0) @binding(5) var<storage, read_write> recent: array<u32>;   // [slot][WINDOW ids by position | a count for each id]
@group(0) @binding(6) var<storage, read_write> rows: array<RowEntry>;     // the row table
@group(0) @binding(7) var<storage, read_write> chosen: array<u32>;   // [rows]: an id, or one of two marks

var<workgroup> tallies: array<atomic<u32>, 2u * WG>;  // high words of the mass of each value, then low words or counts
var<private> keys: array<u32, LANE_IDS>;              // of this lane's ids, which are adjacent
var<private> key_count: u32;
var<private> largest: f32;
var<private> kept: u32;                               // the lowest key that stays

// The weight of an id of this lane in the draw.
fn drawn(i: u32) -> vec2<u32> { return drawn_words(keys[i], kept, largest, rules); }

// Rounds of a selection: four bytes of top-k's threshold, four bytes of top-p's threshold, the draw.
const RANK: u32 = 0u;
const MASS: u32 = 4u;
const DRAW: u32 = 8u;

fn after_rank(by: SamplingParams) -> u32 { return select(DRAW, MASS, cuts_by_mass(by)); }
fn first_round(by: SamplingParams) -> u32 { return select(after_rank(by), RANK, cuts_by_rank(by)); }

// Tallies the tokens, or their mass, by a byte of the key, over the keys that agree with `floor` in the higher bytes.
fn tally(round: u32, shift: u32, floor: u32) {
  for (var i = 0u; i < key_count; i++) {
    let key = keys[i];
    let value = (key - floor) >> shift;
    if (key < max(floor, kept) || value >= WG) { continue; }
    var mass = vec2<u32>(0u, 1u);
    if (round >= MASS) { mass = plain_words(key, largest); }
    if (mass.x > 0u) { atomicAdd(&tallies[value], mass.x); }
    if (mass.y > 0u) { atomicAdd(&tallies[WG + value], mass.y); }
  }
}

@compute @workgroup_size(WG)
fn select_token(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  let now = chooser(row, lane);
  look_at(now);

  let run = (params.vocab + WG - 1u) / WG;
  let first = min(lane * run, params.vocab);
  key_count = min(run, params.vocab - first);
  var own_best = vec2<u32>(0u, params.vocab);
  for (var i = 0u; i < key_count; i++) {
    keys[i] = key_of(logit(first + i));
    own_best = better(own_best, vec2<u32>(keys[i], first + i));
  }
  let top = best_of(own_best, lane);
  largest = value_of(top.x);

  // One loop for all rounds: a CPU driver masks instead of branching and would run every unneeded round.
  var id = top.y;
  var floor = 0u;         // the bytes of the threshold found so far
  var left = vec2<u32>(); // tokens or mass to find among the keys that agree with them
  var at = vec3<u32>();
  for (var round = first_round(now.rules); now.rules.temperature > 0.0 && round <= DRAW; round++) {
    let byte = round % 4u;
    let shift = 24u - 8u * byte;
    atomicStore(&tallies[lane], 0u);
    atomicStore(&tallies[WG + lane], 0u);
    workgroupBarrier();
    var own = vec2<u32>();
    if (round < DRAW) {
      tally(round, shift, floor);
    } else {
      for (var i = 0u; i < key_count; i++) { own = plus(own, amount(drawn(i))); }
    }
    workgroupBarrier();
    let value = WG - 1u - lane;  // from the largest down
    if (round < DRAW) { own = amount(vec2<u32>(atomicLoad(&tallies[value]), atomicLoad(&tallies[WG + value]))); }
    let along = line_up(own, lane);
    switch round {
      case RANK: { left = vec2<u32>(0u, rules.top_k - 1u); }
      case MASS: { left = minus(reach_of(rules, along.total), vec2<u32>(0u, 1u)); }
      case DRAW: { left = goal_of(rules, now.entry.position + batch.advance, along.total); }
      default: {}
    }
    at = fall(along, own, left, lane);
    left = at.yz;
    floor |= (WG - 1u - at.x) << shift;
    if (byte == 3u) {
      kept = max(kept, floor);
      floor = 0u;
      if (round < MASS) { round = after_rank(now.rules) - 1u; }
    }
  }
  if (now.rules.temperature > 0.0) { id = pick(at, 0u, run, top.y, lane); }
  if (lane == 0u) { write_token(row, now, top.x, id); }
}
