// Second pass of a scan in several segments: replaces each segment's own last h by the h it starts from,
// h_in(j + 1) = exp(A S(j)) h_in(j) + h_own(j), S the sum of dt. One lane per channel and state, segments in order.
struct Params {
  inner: u32,       // D
  segments: u32,    // in a full chunk
  segment: u32,     // tokens in a segment
  versions: u32,    // versions of a slot's state
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> a_skip: array<f32>;         // [N + 1, D]: A log2(e), then the skip D
@group(0) @binding(3) var<storage, read> dt_sum: array<f32>;         // [segments, D]
@group(0) @binding(4) var<storage, read> state: array<f32>;          // [slot][version][N][D]
@group(0) @binding(5) var<storage, read_write> carry: array<f32>;    // [segments, N, D]: own last h in, start h out

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn scan_carry(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * WG + lane;
  let n = group.y;
  if (d >= params.inner) { return; }
  let used = min(params.segments, (batch.rows + params.segment - 1u) / params.segment);
  let a = a_skip[n * params.inner + d];
  var h = state[((batch.slot * params.versions + batch.read_version) * N + n) * params.inner + d];
  for (var j = 0u; j < used; j++) {
    let at = (j * N + n) * params.inner + d;
    let own = carry[at];
    carry[at] = h;
    h = exp2(a * dt_sum[j * params.inner + d]) * h + own;
  }
}
