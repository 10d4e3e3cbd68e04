// First pass of a scan in several segments: each segment runs from h = 0 and writes its last h and the sum of its dt.
// exp(A * that sum) is the product of all its decays.

@compute @workgroup_size(WG)
fn scan_local(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * WG + lane;
  let segment = group.y;
  if (d >= params.inner) { return; }
  let end = min(batch.rows, (segment + 1u) * params.segment);
  var h: array<f32, N>;
  var sum = 0.0;
  for (var t = segment * params.segment; t < end; t++) {
    let dt_t = dt[t * params.stride + d];
    let dt_x = dt_t * x[t * params.stride + d];
    let b = t * params.dbc_stride + params.b_first;
    sum += dt_t;
    for (var n = 0u; n < N; n++) { h[n] = recur(h[n], dt_t, a_skip[n * params.inner + d], dt_x, dbc[b + n]); }
  }
  for (var n = 0u; n < N; n++) { carry[(segment * N + n) * params.inner + d] = h[n]; }
  dt_sum[segment * params.inner + d] = sum;
}
