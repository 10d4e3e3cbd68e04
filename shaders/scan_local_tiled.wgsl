// scan_local.wgsl for GPUs: LANES lanes per channel, tile by tile, like scan_tiled.wgsl.

@compute @workgroup_size(WG)
fn scan_local(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let groups = (params.inner + CHANNELS - 1u) / CHANNELS;
  let segments = (sequence_rows() + params.segment - 1u) / params.segment;
  let channels = channels_of(group.x, groups) * CHANNELS;
  let d = channels + index / LANES;
  let own_d = channels + index % CHANNELS;  // the channel that this lane loads
  let s = Sequence(picture_of_part(group.y, segments), direction_of(group.x, groups));
  let segment = part_of(group.y, segments);
  let start = segment * params.segment;
  let end = min(sequence_rows(), start + params.segment);
  let carried = sequence_number(s) * segments + segment;
  let weights = weights_row(s, N + 1u);

  var h = array<States, SHARE>();
  var a = array<States, SHARE>();
  for (var j = 0u; j < SHARE; j++) {
    var a_values = array<f32, WIDTH>();
    for (var w = 0u; w < WIDTH; w++) {
      let n = state_at(j, w, index);
      a_values[w] = 0.0;
      if (n < N && d < params.inner) { a_values[w] = a_skip[(weights + n) * params.inner + d]; }
    }
    a[j] = states_of(a_values);
  }
  var dts = 0.0;

  load_tile(s, start, end, own_d, index);
  for (var first = start; first < end; first += TILE) {
    let count = min(TILE, end - first);
    keep_tile(index);
    workgroupBarrier();
    load_tile(s, first + TILE, end, own_d, index);
    for (var t = 0u; t < count; t++) {
      let dt_x = tile_dt_x[t * CHANNELS + index / LANES];
      dts += dt_x.x;
      for (var j = 0u; j < SHARE; j++) {
        h[j] = recur(h[j], dt_x.x, a[j], dt_x.x * dt_x.y, tile_bc[t * 2u * ROW + j * LANES + index % LANES]);
      }
    }
    workgroupBarrier();
  }

  if (d >= params.inner) { return; }
  for (var j = 0u; j < SHARE; j++) {
    let values = values_of(h[j]);
    for (var w = 0u; w < WIDTH; w++) {
      let n = state_at(j, w, index);
      if (n < N) { carry[(carried * N + n) * params.inner + d] = values[w]; }
    }
  }
  if (index % LANES == 0u) { dt_sum[carried * params.inner + d] = dts; }
}
