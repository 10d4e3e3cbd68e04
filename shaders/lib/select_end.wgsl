// The end of a choice: the draw in order of ids, and where its outcome goes.
var<workgroup> picked: u32;

// The id that the draw falls on, of `count` ids a lane, lane after lane from `first`: in lane at.x, at.yz into what its ids
// weigh; `otherwise` where that is in none, as all weigh nothing. All lanes must call it. The kernel says what the ids of a
// lane weigh: drawn(i).
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

// Of a total, what the random bits of a position fall on: the whole part of total * u, u = 24 bits.
fn goal_of(rules: Sampling, position: u32, total: vec2<u32>) -> vec2<u32> {
  return part(total, pcg4d(vec4<u32>(rules.seed_low, rules.seed_high, position, 0u)).x & 0xffffff00u);
}

// The token at `position` is now `id`, and the one that leaves the window counts no more.
fn remember(slot: u32, window: u32, position: u32, id: u32) {
  let memory = slot * (WINDOW + params.vocab);
  let place = memory + position % window;
  let leaving = recent[place];
  if (leaving < params.vocab) { recent[memory + WINDOW + leaving] -= 1u; }
  recent[place] = id;
  recent[memory + WINDOW + id] += 1u;
}

// Writes the choice of a row. One lane calls it. `top` is the largest key.
fn settle(row: u32, now: Chooser, top: u32, choice: u32) {
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
