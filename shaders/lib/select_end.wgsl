// The end of a selection: the draw in order of ids, and the writes of its result.
var<workgroup> picked: u32;

// The id that the draw hits. Each lane has `count` ids, lane after lane from `first`; the draw is in lane at.x, at.yz into the
// weights of its ids. Returns `otherwise` if all weights are zero. All lanes call it. The kernel defines drawn(i), the weight of a
// lane's i-th id.
fn pick(at: vec3<u32>, first: u32, count: u32, otherwise: u32, lane: u32) -> u32 {
  if (lane == at.x) {
    picked = otherwise;
    var left = at.yz;
    for (var i = 0u; i < count; i++) {
      let weight = amount(drawn(i));
      if (below(left, weight)) {
        picked = first + lane * count + i;
        break;
      }
      left = minus(left, weight);
    }
  }
  return workgroupUniformLoad(&picked);
}

// The amount that the random number of a position selects: the integer part of total * u, u of 24 bits.
fn goal_of(rules: SamplingParams, position: u32, total: vec2<u32>) -> vec2<u32> {
  return part(total, pcg4d(vec4<u32>(rules.seed_low, rules.seed_high, position, 0u)).x & 0xffffff00u);
}

// Enters `id` at `position`, and removes the token that leaves the window from the counts.
fn remember(slot: u32, window: u32, position: u32, id: u32) {
  let memory = slot * (WINDOW + params.vocab);
  let place = memory + position % window;
  let leaving = recent[place];
  if (leaving < params.vocab) { recent[memory + WINDOW + leaving] -= 1u; }
  recent[place] = id;
  recent[memory + WINDOW + id] += 1u;
}

// Writes the token of a row. One lane calls it. `top` is the largest key.
fn write_token(row: u32, now: Chooser, top: u32, choice: u32) {
  let entry = batch.entry + row;
  let position = now.entry.position + batch.advance;
  var id = choice;
  if (top <= KEY_NEG_INF) { id = ALL_BANNED; }
  if (top > KEY_MAX) { id = NOT_FINITE; }
  if (now.rules.window > 0u && id < params.vocab) { remember(now.entry.slot, now.rules.window, position, id); }
  chosen[row] = id;
  rows[entry].id = min(id, params.vocab - 1u);
  rows[entry].position = position;
  rows[entry].version += batch.advance;
}
