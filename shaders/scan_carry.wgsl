// Second pass of a scan in several segments: replaces each segment's own last h by the h it starts from,
// h_in(j + 1) = exp(A S(j)) h_in(j) + h_own(j), S the sum of dt. One lane per channel and state, segments in order.
struct Params {
  inner: u32,       // D
  segment: u32,     // tokens in a segment
  versions: u32,    // versions of a slot's state
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> a_skip: array<f32>;         // [direction][N + 1, D]: A log2(e), then the skip D
@group(0) @binding(3) var<storage, read> dt_sum: array<f32>;         // [sequence][segments, D]
@group(0) @binding(4) var<storage, read_write> carry: array<f32>;    // [sequence][segments, N, D]: own last h in, start h out

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn scan_carry(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let groups = (params.inner + WG - 1u) / WG;
  let d = channels_of(group.x, groups) * WG + lane;
  let s = Sequence(picture_of_part(group.y, N), direction_of(group.x, groups));
  let n = part_of(group.y, N);
  if (d >= params.inner) { return; }
  let segments = (sequence_rows() + params.segment - 1u) / params.segment;
  let a = a_skip[(weights_row(s, N + 1u) + n) * params.inner + d];
  var h = h_before(n, d);
  for (var j = 0u; j < segments; j++) {
    let carried = sequence_number(s) * segments + j;
    let at = (carried * N + n) * params.inner + d;
    let own = carry[at];
    carry[at] = h;
    h = exp2(a * dt_sum[carried * params.inner + d]) * h + own;
  }
}
