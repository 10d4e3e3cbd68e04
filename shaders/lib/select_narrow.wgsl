// Finds the value of a tally that holds the k-th token, or the last token that top-p keeps.
struct Open {
  floor: u32,       // the lowest key of the open range
  left: vec2<u32>,  // tokens or mass to find in it, from the largest key down
}

fn opened(tally: u32, row: u32, rules: SamplingParams) -> Open {
  if (tally == RANK) { return Open(0u, vec2<u32>(0u, rules.top_k)); }
  if (tally == MASS) { return Open(0u, vec2<u32>()); }
  let at = note_at(row, OPEN + 3u * tally);
  let floor = atomicLoad(&notes[at]);
  return Open(floor, vec2<u32>(atomicLoad(&notes[at + 1u]), atomicLoad(&notes[at + 2u])));
}

const EACH: u32 = VALUES / WG;
var<workgroup> narrowed: vec3<u32>;

// All lanes call it. The kernel defines tallied(tally, word / 4): four words of a tally.
fn narrow(tally: u32, row: u32, rules: SamplingParams, lane: u32) -> Open {
  var open = opened(tally, row, rules);
  let lowest = (WG - 1u - lane) * EACH;  // the first lane has the largest values
  let at = (tally_at(row, tally) + lowest) / 4u;
  var values = array<vec2<u32>, EACH>();
  var own = vec2<u32>();
  for (var quad = 0u; quad < EACH / 4u; quad++) {
    var high = vec4<u32>();
    var low = tallied(tally, at + quad);
    if (tally >= MASS) {
      high = low;
      low = tallied(tally, at + VALUES / 4u + quad);
    }
    for (var i = 0u; i < 4u; i++) {
      let value = amount(vec2<u32>(high[i], low[i]));
      values[4u * quad + i] = value;
      own = plus(own, value);
    }
  }
  let along = line_up(own, lane);
  if (tally == MASS) { open.left = reach_of(rules, along.total); }
  let fallen = fall(along, own, minus(open.left, vec2<u32>(0u, 1u)), lane);
  if (lane == fallen.x) {
    narrowed = vec3<u32>(lowest, 0u, 0u);
    var left = fallen.yz;
    for (var back = 1u; back <= EACH; back++) {
      let value = values[EACH - back];
      if (below(left, value)) {
        narrowed = vec3<u32>(lowest + EACH - back, left);
        break;
      }
      left = minus(left, value);
    }
  }
  let found = workgroupUniformLoad(&narrowed);
  return Open(open.floor | (found.x << shift_of(tally)), plus(found.yz, vec2<u32>(0u, 1u)));
}
