// Last stage of a selection, one workgroup per row: finds the slice that the draw hits and the id in it, and clears the tallies and
// notes for the next selection.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> sampling: array<SamplingParams>;  // [slot]
@group(0) @binding(3) var<storage, read_write> recent: array<u32>;   // [slot][WINDOW ids by position | a count for each id]
@group(0) @binding(4) var<storage, read_write> rows: array<RowEntry>;     // the row table
@group(0) @binding(5) var<storage, read_write> chosen: array<u32>;   // [rows]: an id, or one of two marks
@group(0) @binding(6) var<storage, read> work: array<u32>;           // [rows][params.work]
@group(0) @binding(7) var<storage, read_write> notes: array<atomic<u32>>;      // [rows][NOTES]
@group(0) @binding(8) var<storage, read_write> tally_even: array<vec4<u32>>;   // [rows][TALLIES / 4]
@group(0) @binding(9) var<storage, read_write> tally_odd: array<vec4<u32>>;    // [rows][TALLIES / 4]

var<workgroup> listed_keys: array<u32, LISTED>;
var<workgroup> listed_words: array<vec2<u32>, LISTED>;
var<workgroup> slice_words: array<atomic<u32>, 2u * WG>;
var<workgroup> kept_of_row: atomic<u32>;

var<private> rules: SamplingParams;
var<private> largest: f32;
var<private> kept: u32;   // the lowest key that stays
var<private> keys: array<u32, LANE_IDS>;

// The weight of an id of this lane in the draw.
fn drawn(i: u32) -> vec2<u32> { return drawn_words(keys[i], kept, largest, rules); }

fn clear(row: u32, lane: u32) {
  const QUADS = VALUES / 4u;
  if (cuts_by_rank(rules)) {
    for (var i = lane; i < QUADS; i += WG) {
      tally_even[tally_at(row, RANK) / 4u + i] = vec4<u32>();
      tally_odd[tally_at(row, RANK + 1u) / 4u + i] = vec4<u32>();
      tally_even[tally_at(row, RANK_LAST) / 4u + i] = vec4<u32>();
    }
  }
  if (cuts_by_mass(rules) && !lists(rules)) {
    for (var i = lane; i < 2u * QUADS; i += WG) {
      tally_odd[tally_at(row, MASS) / 4u + i] = vec4<u32>();
      tally_even[tally_at(row, MASS + 1u) / 4u + i] = vec4<u32>();
      tally_odd[tally_at(row, MASS_LAST) / 4u + i] = vec4<u32>();
    }
  }
}

// Applies top-p, min-p and temperature to the tokens that a small top-k leaves: the listed ones, and those at the k-th key, which
// share one more entry of the list. Sets `kept` and returns the weight of slice `lane`.
fn weigh_listed(row: u32, top: u32, lane: u32) -> vec2<u32> {
  let count = min(atomicLoad(&notes[note_at(row, COUNT)]), LISTED - 1u);
  let kth = atomicLoad(&notes[note_at(row, KTH)]);
  var key = kth;
  var id = params.vocab;
  if (lane < count) {
    key = work[listed_at(row, lane)];
    id = work[listed_at(row, lane) + 1u];
  }
  var ties = 0u;
  if (lane < params.slices) { ties = work[ties_at(row, lane)]; }
  if (lane == 0u) { atomicStore(&kept_of_row, top); }
  listed_keys[lane] = key;
  listed_words[lane] = plain_words(key, largest);
  atomicStore(&slice_words[lane], 0u);
  atomicStore(&slice_words[WG + lane], 0u);

  var own = amount(plain_words(kth, largest) * ties);
  if (lane < count) { own = plus(own, amount(plain_words(key, largest))); }
  let along = line_up(own, lane);
  if (lane <= count) {
    var above = vec2<u32>();
    for (var i = 0u; i < count; i++) {
      if (listed_keys[i] > key) { above += listed_words[i]; }
    }
    if (rules.top_p >= 1.0 || below(amount(above), reach_of(rules, along.total))) { atomicMin(&kept_of_row, key); }
  }
  workgroupBarrier();
  kept = atomicLoad(&kept_of_row);
  if (lane < count) {
    let weight = drawn_words(key, kept, largest, rules);
    let slice = id / (WG * LANE_IDS);
    atomicAdd(&slice_words[slice], weight.x);
    atomicAdd(&slice_words[WG + slice], weight.y);
  }
  workgroupBarrier();
  let weight = vec2<u32>(atomicLoad(&slice_words[lane]), atomicLoad(&slice_words[WG + lane]));
  return amount(weight + drawn_words(kth, kept, largest, rules) * ties);
}

@compute @workgroup_size(WG)
fn select_finish(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  var own_best = vec2<u32>(0u, params.vocab);
  if (lane < params.slices) { own_best = vec2<u32>(work[best_at(row, lane)], work[best_at(row, lane) + 1u]); }
  let now = chooser(row, lane);
  rules = now.rules;
  let top = best_of(own_best, lane);
  largest = value_of(top.x);

  var id = top.y;
  if (now.rules.temperature > 0.0) {
    clear(row, lane);
    var weight = vec2<u32>();
    if (lists(now.rules)) {
      weight = weigh_listed(row, top.x, lane);
    } else {
      kept = atomicLoad(&notes[note_at(row, KEPT)]);
      if (lane < params.slices) { weight = vec2<u32>(work[weight_at(row, lane)], work[weight_at(row, lane) + 1u]); }
    }
    let slices = line_up(weight, lane);
    let goal = goal_of(now.rules, now.entry.position + batch.advance, slices.total);
    let at = fall(slices, weight, goal, lane);
    let first = at.x * WG * LANE_IDS;
    var own = vec2<u32>();
    for (var i = 0u; i < LANE_IDS; i++) {
      let place = first + lane * LANE_IDS + i;
      keys[i] = 0u;
      if (place < params.vocab) { keys[i] = work[key_at(row) + place]; }
      own = plus(own, amount(drawn(i)));
    }
    let in_slice = fall(line_up(own, lane), own, at.yz, lane);
    id = pick(in_slice, first, LANE_IDS, top.y, lane);
  }
  if (lane == 0u) {
    atomicStore(&notes[note_at(row, BEST)], 0u);
    atomicStore(&notes[note_at(row, COUNT)], 0u);
    write_token(row, now, top.x, id);
  }
}
