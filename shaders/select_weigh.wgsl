// A late stage of a selection without a small top-k: the threshold, and the weight of each slice in the draw.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> sampling: array<SamplingParams>;  // [slot]
@group(0) @binding(3) var<storage, read> rows: array<RowEntry>;           // the row table
@group(0) @binding(4) var<storage, read_write> work: array<u32>;     // [rows][params.work]
@group(0) @binding(5) var<storage, read_write> notes: array<atomic<u32>>;  // [rows][NOTES]
@group(0) @binding(6) var<storage, read> tally_rank: array<vec4<u32>>;     // [rows][TALLIES / 4], the last of top-k
@group(0) @binding(7) var<storage, read> tally_mass: array<vec4<u32>>;     // [rows][TALLIES / 4], the last of top-p

fn tallied(tally: u32, at: u32) -> vec4<u32> {
  if (tally == MASS_LAST) { return tally_mass[at]; }
  return tally_rank[at];
}

@compute @workgroup_size(WG)
fn select_weigh(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slice = group.x;
  let row = group.y;
  let rules = chooser(row, lane).rules;
  if (rules.temperature <= 0.0 || lists(rules)) { return; }
  let first = slice * WG * LANE_IDS + lane;
  var keys = array<u32, LANE_IDS>();
  for (var i = 0u; i < LANE_IDS; i++) { keys[i] = work[key_at(row) + min(first + i * WG, params.vocab - 1u)]; }
  let largest = value_of(atomicLoad(&notes[note_at(row, BEST)]));
  let massed = cuts_by_mass(rules);
  var kept = 0u;
  if (massed || cuts_by_rank(rules)) { kept = narrow(select(RANK_LAST, MASS_LAST, massed), row, rules, lane).floor; }
  if (massed) { kept = max(kept, atomicLoad(&notes[note_at(row, KTH)])); }
  var own = vec2<u32>();
  for (var i = 0u; i < LANE_IDS; i++) {
    if (first + i * WG < params.vocab) { own = plus(own, amount(drawn_words(keys[i], kept, largest, rules))); }
  }
  let along = line_up(own, lane);
  if (lane == 0u) {
    let at = weight_at(row, slice);
    work[at] = along.total.x;
    work[at + 1u] = along.total.y;
    if (slice == 0u) { atomicStore(&notes[note_at(row, KEPT)], kept); }
  }
}
