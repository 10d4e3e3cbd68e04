// scan_local.wgsl for GPUs: LANES lanes per channel, tile by tile, like scan_tiled.wgsl.

@compute @workgroup_size(WG)
fn scan_local(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let d = group.x * CHANNELS + index / LANES;
  let own_d = group.x * CHANNELS + index % CHANNELS;  // the channel that this lane loads
  let segment = group.y;
  let start = segment * params.segment;
  let end = min(batch.rows, start + params.segment);

  var h: array<States, SHARE>;
  var a: array<States, SHARE>;
  for (var j = 0u; j < SHARE; j++) {
    var a_values: array<f32, WIDTH>;
    for (var w = 0u; w < WIDTH; w++) {
      let n = state_at(j, w, index);
      a_values[w] = 0.0;
      if (n < N && d < params.inner) { a_values[w] = a_skip[n * params.inner + d]; }
    }
    a[j] = states_of(a_values);
  }
  var dts = 0.0;

  load_tile(start, end, own_d, index);
  for (var first = start; first < end; first += TILE) {
    let count = min(TILE, end - first);
    keep_tile(index);
    workgroupBarrier();
    load_tile(first + TILE, end, own_d, index);
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
      if (n < N) { carry[(segment * N + n) * params.inner + d] = values[w]; }
    }
  }
  if (index % LANES == 0u) { dt_sum[segment * params.inner + d] = dts; }
}
