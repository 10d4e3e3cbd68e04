// Amounts of the lanes, one after the other on a line.
const BLOCK: u32 = 16u;
var<workgroup> line_lanes: array<vec2<u32>, WG>;
var<workgroup> line_blocks: array<vec2<u32>, WG / BLOCK>;

struct Line {
  upto: vec2<u32>,   // the sum of the lanes before, and of this one
  total: vec2<u32>,
}

// All lanes must call it.
fn line_up(own: vec2<u32>, lane: u32) -> Line {
  line_lanes[lane] = own;
  workgroupBarrier();
  if (lane < WG / BLOCK) {
    var sum = vec2<u32>();
    for (var i = 0u; i < BLOCK; i++) { sum = plus(sum, line_lanes[lane * BLOCK + i]); }
    line_blocks[lane] = sum;
  }
  workgroupBarrier();
  var line = Line(own, vec2<u32>());
  for (var i = 0u; i < WG / BLOCK; i++) {
    let sum = line_blocks[i];
    if (i < lane / BLOCK) { line.upto = plus(line.upto, sum); }
    line.total = plus(line.total, sum);
  }
  for (var i = 0u; i < BLOCK; i++) {
    if (i < lane % BLOCK) { line.upto = plus(line.upto, line_lanes[lane / BLOCK * BLOCK + i]); }
  }
  workgroupBarrier();
  return line;
}

var<workgroup> fell: vec3<u32>;

// The lane in whose amount `goal` falls, and how far into it (y, z); the last lane where it falls behind all. All lanes
// must call it.
fn fall(line: Line, own: vec2<u32>, goal: vec2<u32>, lane: u32) -> vec3<u32> {
  if (lane == 0u) { fell = vec3<u32>(WG - 1u, 0u, 0u); }
  workgroupBarrier();
  let before = minus(line.upto, own);
  if (!below(goal, before) && below(goal, line.upto)) { fell = vec3<u32>(lane, minus(goal, before)); }
  return workgroupUniformLoad(&fell);
}

// The larger key, the lower id among equals.
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y)); }

// The best of all lanes, which must all call it.
fn best_of(own: vec2<u32>, lane: u32) -> vec2<u32> {
  line_lanes[lane] = own;
  workgroupBarrier();
  if (lane < WG / BLOCK) {
    var best = line_lanes[lane * BLOCK];
    for (var i = 1u; i < BLOCK; i++) { best = better(best, line_lanes[lane * BLOCK + i]); }
    line_blocks[lane] = best;
  }
  workgroupBarrier();
  var best = line_blocks[0];
  for (var i = 1u; i < WG / BLOCK; i++) { best = better(best, line_blocks[i]); }
  workgroupBarrier();
  return best;
}
