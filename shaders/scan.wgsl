// The selective scan of a chunk: y_t = (C_t . h_t + D x_t) silu(z_t) with h from the slot's state (first segment) or
// from the carry pass (other segments). The segment of the last row writes its h as the state's next version.

@compute @workgroup_size(WG)
fn scan(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * WG + lane;
  let segment = group.y;
  if (d >= params.inner) { return; }
  let start = segment * params.segment;
  let end = min(batch.rows, start + params.segment);
  let slot = batch.slot * params.versions;

  var h: array<f32, N>;
  var a: array<f32, N>;
  for (var n = 0u; n < N; n++) {
    a[n] = a_skip[n * params.inner + d];
    if (segment == 0u) {
      h[n] = state[((slot + batch.read_version) * N + n) * params.inner + d];
    } else {
      h[n] = carry[(segment * N + n) * params.inner + d];
    }
  }
  let skip = a_skip[N * params.inner + d];

  for (var t = start; t < end; t++) {
    let dt_t = dt[t * params.stride + d];
    let x_t = x[t * params.stride + d];
    let dt_x = dt_t * x_t;
    let b = t * params.dbc_stride + params.b_first;
    var sum = 0.0;
    for (var n = 0u; n < N; n++) {
      h[n] = recur(h[n], dt_t, a[n], dt_x, dbc[b + n]);
      sum += dbc[b + N + n] * h[n];
    }
    y[t * params.stride + d] = (sum + skip * x_t) * silu(z[t * params.z_stride + params.z_first + d]);
  }

  if (end == batch.rows) {
    for (var n = 0u; n < N; n++) { state[((slot + batch.write_version) * N + n) * params.inner + d] = h[n]; }
  }
}
