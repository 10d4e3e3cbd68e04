// First pass of a scan in several segments: each segment runs from h = 0 and writes its last h and the sum of its dt.
// exp(A * that sum) is the product of all its decays.

@compute @workgroup_size(WG)
fn scan_local(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let groups = (params.inner + WG - 1u) / WG;
  let segments = (sequence_rows() + params.segment - 1u) / params.segment;
  let d = channels_of(group.x, groups) * WG + lane;
  let s = Sequence(picture_of_part(group.y, segments), direction_of(group.x, groups));
  let segment = part_of(group.y, segments);
  if (d >= params.inner) { return; }
  let end = min(sequence_rows(), (segment + 1u) * params.segment);
  let carried = sequence_number(s) * segments + segment;
  let weights = weights_row(s, N + 1u);
  var h = array<f32, N>();
  var sum = 0.0;
  for (var t = segment * params.segment; t < end; t++) {
    let row = own_row(s, t);
    let dt_t = dt[row * params.stride + d];
    let dt_x = dt_t * x[row * params.stride + d];
    let b = row * params.dbc_stride + params.b_first;
    sum += dt_t;
    for (var n = 0u; n < N; n++) {
      h[n] = recur(h[n], dt_t, a_skip[(weights + n) * params.inner + d], dt_x, dbc[b + n]);
    }
  }
  for (var n = 0u; n < N; n++) { carry[(carried * N + n) * params.inner + d] = h[n]; }
  dt_sum[carried * params.inner + d] = sum;
}
