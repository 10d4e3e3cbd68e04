// Amounts of the lanes, one after the other on a line. WG is a power of 4.
var<workgroup> line: array<vec2<u32>, 2u * WG>;

struct Line {
  upto: vec2<u32>,   // the sum of the lanes before, and of this one
  total: vec2<u32>,
}

// All lanes must call it. Each step reads one half of the array and writes the other.
fn line_up(own: vec2<u32>, lane: u32) -> Line {
  var sum = own;
  var half = 0u;
  line[lane] = sum;
  workgroupBarrier();
  for (var reach = 1u; reach < WG; reach <<= 1u) {
    if (lane >= reach) { sum = plus(sum, line[half + lane - reach]); }
    half = WG - half;
    line[half + lane] = sum;
    workgroupBarrier();
  }
  let total = line[WG - 1u];  // after an even number of steps it is in the first half
  workgroupBarrier();
  return Line(sum, total);
}

var<workgroup> fell: vec3<u32>;

// The lane in whose amount `goal` falls, and how far into it (y, z); the last lane where it falls behind all. All lanes
// must call it.
fn fall(along: Line, own: vec2<u32>, goal: vec2<u32>, lane: u32) -> vec3<u32> {
  if (lane == 0u) { fell = vec3<u32>(WG - 1u, 0u, 0u); }
  workgroupBarrier();
  let before = minus(along.upto, own);
  if (!below(goal, before) && below(goal, along.upto)) { fell = vec3<u32>(lane, minus(goal, before)); }
  return workgroupUniformLoad(&fell);
}

// The larger key, the lower id among equals.
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y)); }

// The best of all lanes, which must all call it.
fn best_of(own: vec2<u32>, lane: u32) -> vec2<u32> {
  line[lane] = own;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (lane < half) { line[lane] = better(line[lane], line[lane + half]); }
    workgroupBarrier();
  }
  let best = line[0];
  workgroupBarrier();
  return best;
}
