// Prefix sums of the lanes' amounts. WG is 4^4.
var<workgroup> line: array<vec2<u32>, 2u * WG>;

struct Line {
  upto: vec2<u32>,   // the sum of this lane and all before it
  total: vec2<u32>,
}

var<workgroup> fell: vec3<u32>;

// All lanes call it. Each step adds four neighbours of the last step, from one half of the array into the other.
fn line_up(own: vec2<u32>, lane: u32) -> Line {
  var sum = own;
  var half = 0u;
  line[lane] = sum;
  workgroupBarrier();
  for (var reach = 1u; reach < WG; reach <<= 2u) {
    for (var back = reach; back < 4u * reach; back += reach) {
      if (lane >= back) { sum = plus(sum, line[half + lane - back]); }
    }
    half = WG - half;
    line[half + lane] = sum;
    workgroupBarrier();
  }
  let total = line[WG - 1u];  // after an even number of steps the result is in the first half
  if (lane == 0u) { fell = vec3<u32>(WG - 1u, 0u, 0u); }
  workgroupBarrier();
  return Line(sum, total);
}

// The lane whose amount contains `goal`, and the offset into it (y, z); the last lane if `goal` is past the total. All lanes call
// it, once per line_up.
fn fall(along: Line, own: vec2<u32>, goal: vec2<u32>, lane: u32) -> vec3<u32> {
  let before = minus(along.upto, own);
  if (!below(goal, before) && below(goal, along.upto)) { fell = vec3<u32>(lane, minus(goal, before)); }
  return workgroupUniformLoad(&fell);
}

// The larger key, the lower id among equals.
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y)); }

// The best of all lanes; all call it.
fn best_of(own: vec2<u32>, lane: u32) -> vec2<u32> {
  line[lane] = own;
  workgroupBarrier();
  for (var part = WG / 4u; part > 0u; part >>= 2u) {
    if (lane < part) {
      let first = better(line[lane], line[lane + part]);
      line[lane] = better(first, better(line[lane + 2u * part], line[lane + 3u * part]));
    }
    workgroupBarrier();
  }
  let best = line[0];
  workgroupBarrier();
  return best;
}
