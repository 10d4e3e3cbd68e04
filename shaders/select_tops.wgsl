// First stage of a selection: the keys of the logits, each slice's best, and the first tally for top-k.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> logits: array<f32>;         // [slot][version][vocab]
@group(0) @binding(3) var<storage, read> bias: array<f32>;           // [slot][vocab], added to the logits; -inf bans
@group(0) @binding(4) var<storage, read> sampling: array<SamplingParams>;  // [slot]
@group(0) @binding(5) var<storage, read> recent: array<u32>;         // [slot][WINDOW ids by position | a count for each id]
@group(0) @binding(6) var<storage, read> rows: array<RowEntry>;           // the row table
@group(0) @binding(7) var<storage, read_write> work: array<u32>;     // [rows][params.work]
@group(0) @binding(8) var<storage, read_write> notes: array<atomic<u32>>;  // [rows][NOTES]
@group(0) @binding(9) var<storage, read_write> tally: array<atomic<u32>>;  // [rows][TALLIES]

var<workgroup> counts: array<atomic<u32>, VALUES>;

@compute @workgroup_size(WG)
fn select_tops(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slice = group.x;
  let row = group.y;
  let now = chooser(row, lane);
  look_at(now);
  let ranked = cuts_by_rank(now.rules);
  for (var i = lane; i < VALUES; i += WG) { atomicStore(&counts[i], 0u); }
  workgroupBarrier();

  // All loads first, so that none waits for another.
  let first = slice * WG * LANE_IDS + lane;
  var values = array<f32, LANE_IDS>();
  for (var i = 0u; i < LANE_IDS; i++) { values[i] = logit(min(first + i * WG, params.vocab - 1u)); }
  var best = vec2<u32>(0u, params.vocab);
  for (var i = 0u; i < LANE_IDS; i++) {
    let id = first + i * WG;
    if (id >= params.vocab) { continue; }
    let key = key_of(values[i]);
    best = better(best, vec2<u32>(key, id));
    if (now.rules.temperature > 0.0) { work[key_at(row) + id] = key; }
    if (ranked) { atomicAdd(&counts[key >> shift_of(RANK)], 1u); }
  }
  best = best_of(best, lane);
  if (lane == 0u) {
    let at = best_at(row, slice);
    work[at] = best.x;
    work[at + 1u] = best.y;
    atomicMax(&notes[note_at(row, BEST)], best.x);
  }
  if (!ranked) { return; }
  for (var i = lane; i < VALUES; i += WG) {
    let count = atomicLoad(&counts[i]);
    if (count > 0u) { atomicAdd(&tally[tally_at(row, RANK) + i], count); }
  }
}
