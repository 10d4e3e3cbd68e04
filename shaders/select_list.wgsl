// A late stage of a selection with a small top-k: lists the tokens above the k-th key, in any order, and counts those at it, which
// may be any number.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> sampling: array<SamplingParams>;  // [slot]
@group(0) @binding(3) var<storage, read> rows: array<RowEntry>;           // the row table
@group(0) @binding(4) var<storage, read_write> work: array<u32>;     // [rows][params.work]
@group(0) @binding(5) var<storage, read_write> notes: array<atomic<u32>>;  // [rows][NOTES]
@group(0) @binding(6) var<storage, read> tally_rank: array<vec4<u32>>;     // [rows][TALLIES / 4]

fn tallied(tally: u32, at: u32) -> vec4<u32> { return tally_rank[at]; }

@compute @workgroup_size(WG)
fn select_list(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slice = group.x;
  let row = group.y;
  let rules = chooser(row, lane).rules;
  if (!lists(rules)) { return; }
  let first = slice * WG * LANE_IDS + lane;
  var keys = array<u32, LANE_IDS>();
  for (var i = 0u; i < LANE_IDS; i++) { keys[i] = work[key_at(row) + min(first + i * WG, params.vocab - 1u)]; }
  let kth = narrow(RANK_LAST, row, rules, lane).floor;
  var ties = 0u;
  for (var i = 0u; i < LANE_IDS; i++) {
    let id = first + i * WG;
    if (id >= params.vocab || keys[i] < kth) { continue; }
    if (keys[i] == kth) {
      ties += 1u;
      continue;
    }
    let place = atomicAdd(&notes[note_at(row, COUNT)], 1u);
    if (place < LISTED) {  // at most top-k - 1 tokens are above the k-th key
      work[listed_at(row, place)] = keys[i];
      work[listed_at(row, place) + 1u] = id;
    }
  }
  let along = line_up(vec2<u32>(0u, ties), lane);
  if (lane == 0u) {
    work[ties_at(row, slice)] = along.total.y;
    if (slice == 0u) { atomicStore(&notes[note_at(row, KTH)], kth); }
  }
}
