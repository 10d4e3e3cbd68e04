// The selective scan of sequences: y_t = (C_t . h_t + D x_t) silu(z_t) with h from before the sequence (first segment) or
// from the carry pass (other segments). The segment of the last row keeps its h.

@compute @workgroup_size(WG)
fn scan(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let groups = (params.inner + WG - 1u) / WG;
  let segments = (sequence_rows() + params.segment - 1u) / params.segment;
  let d = channels_of(group.x, groups) * WG + lane;
  let s = Sequence(picture_of_part(group.y, segments), direction_of(group.x, groups));
  let segment = part_of(group.y, segments);
  if (d >= params.inner) { return; }
  let start = segment * params.segment;
  let end = min(sequence_rows(), start + params.segment);
  let carried = sequence_number(s) * segments + segment;
  let weights = weights_row(s, N + 1u);

  var h = array<f32, N>();
  var a = array<f32, N>();
  for (var n = 0u; n < N; n++) {
    a[n] = a_skip[(weights + n) * params.inner + d];
    if (segment == 0u) {
      h[n] = h_before(n, d);
    } else {
      h[n] = carry[(carried * N + n) * params.inner + d];
    }
  }
  let skip = a_skip[(weights + N) * params.inner + d];

  for (var t = start; t < end; t++) {
    let row = own_row(s, t);
    let dt_t = dt[row * params.stride + d];
    let x_t = x[row * params.stride + d];
    let dt_x = dt_t * x_t;
    let b = row * params.dbc_stride + params.b_first;
    var sum = 0.0;
    for (var n = 0u; n < N; n++) {
      h[n] = recur(h[n], dt_t, a[n], dt_x, dbc[b + n]);
      sum += dbc[b + N + n] * h[n];
    }
    put_y(row * params.stride + d, (sum + skip * x_t) * silu(z[shared_row(s, t) * params.z_stride + params.z_first + d]));
  }

  if (end == sequence_rows()) {
    for (var n = 0u; n < N; n++) { keep_h(n, d, h[n]); }
  }
}
