// A middle stage of a selection: reads the tally before and makes the next one for the open range. Masses take twice the
// workgroups: first those of the high words, then those of the low words.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> sampling: array<SamplingParams>;  // [slot]
@group(0) @binding(3) var<storage, read> rows: array<RowEntry>;           // the row table
@group(0) @binding(4) var<storage, read> work: array<u32>;           // [rows][params.work]
@group(0) @binding(5) var<storage, read_write> notes: array<atomic<u32>>;  // [rows][NOTES]
@group(0) @binding(6) var<storage, read> tally_before: array<vec4<u32>>;   // [rows][TALLIES / 4]
@group(0) @binding(7) var<storage, read_write> tally: array<atomic<u32>>;  // [rows][TALLIES]

var<workgroup> sums: array<atomic<u32>, VALUES>;

fn tallied(tally: u32, at: u32) -> vec4<u32> { return tally_before[at]; }

@compute @workgroup_size(WG)
fn select_tally(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slice = group.x % params.slices;
  let word = group.x / params.slices;
  let row = group.y;
  let by_mass = params.tally >= MASS;
  let rules = chooser(row, lane).rules;
  let ranked = cuts_by_rank(rules);
  if (select(!ranked, !cuts_by_mass(rules) || lists(rules), by_mass)) { return; }

  let first = slice * WG * LANE_IDS + lane;
  var keys = array<u32, LANE_IDS>();
  for (var i = 0u; i < LANE_IDS; i++) { keys[i] = work[key_at(row) + min(first + i * WG, params.vocab - 1u)]; }
  for (var i = lane; i < VALUES; i += WG) { atomicStore(&sums[i], 0u); }
  var open = Open();
  if (params.tally != MASS || ranked) { open = narrow(params.tally - 1u, row, rules, lane); }
  var kth = 0u;
  if (params.tally == MASS) {
    kth = open.floor;
    open = Open();
  } else if (by_mass) {
    kth = atomicLoad(&notes[note_at(row, KTH)]);
  }
  if (group.x == 0u && lane == 0u) {
    let at = note_at(row, OPEN + 3u * params.tally);
    atomicStore(&notes[at], open.floor);
    atomicStore(&notes[at + 1u], open.left.x);
    atomicStore(&notes[at + 2u], open.left.y);
    if (params.tally == MASS) { atomicStore(&notes[note_at(row, KTH)], kth); }
  }
  workgroupBarrier();

  let largest = value_of(atomicLoad(&notes[note_at(row, BEST)]));
  let values = select(VALUES, VALUES / 2u, params.tally % 3u == 2u);
  for (var i = 0u; i < LANE_IDS; i++) {
    let key = keys[i];
    let value = (key - open.floor) >> shift_of(params.tally);
    if (first + i * WG >= params.vocab || key < max(open.floor, kth) || value >= values) { continue; }
    var share = 1u;
    if (by_mass) {
      let mass = plain_words(key, largest);
      share = select(mass.x, mass.y, word == 1u);
    }
    if (share > 0u) { atomicAdd(&sums[value], share); }
  }
  workgroupBarrier();
  let at = tally_at(row, params.tally) + word * VALUES;
  for (var i = lane; i < VALUES; i += WG) {
    let sum = atomicLoad(&sums[i]);
    if (sum > 0u) { atomicAdd(&tally[at + i], sum); }
  }
}
