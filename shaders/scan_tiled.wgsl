// scan.wgsl for GPUs: LANES lanes per channel hold its states, and the workgroup processes the tokens tile by tile, with two
// barriers per tile. Lanes past the last channel work on zeros, so that all lanes reach the barriers.

@compute @workgroup_size(WG)
fn scan(group: Group, lanes: Lanes) {
  let index = lane_index(group, lanes);
  let d = group.id.x * CHANNELS + index / LANES;
  let own_d = group.id.x * CHANNELS + index % CHANNELS;  // the channel that this lane loads and writes
  let segment = group.id.y;
  let start = segment * params.segment;
  let end = min(batch.rows, start + params.segment);
  let slot = batch.slot * params.versions;

  var h: array<States, SHARE>;
  var a: array<States, SHARE>;
  for (var j = 0u; j < SHARE; j++) {
    var h_values: array<f32, WIDTH>;
    var a_values: array<f32, WIDTH>;
    for (var w = 0u; w < WIDTH; w++) {
      let n = state_at(j, w, index);
      h_values[w] = 0.0;
      a_values[w] = 0.0;
      if (n < N && d < params.inner) {
        a_values[w] = a_skip[n * params.inner + d];
        if (segment == 0u) {
          h_values[w] = state[((slot + batch.read_version) * N + n) * params.inner + d];
        } else {
          h_values[w] = carry[(segment * N + n) * params.inner + d];
        }
      }
    }
    h[j] = states_of(h_values);
    a[j] = states_of(a_values);
  }
  var skip = 0.0;
  if (own_d < params.inner) { skip = a_skip[N * params.inner + own_d]; }

  load_tile(start, end, own_d, index);
  for (var first = start; first < end; first += TILE) {
    let count = min(TILE, end - first);
    keep_tile(index);
    var x_z: array<vec2<f32>, OWN>;
    for (var k = 0u; k < OWN; k++) {
      let t = own_token(k, index);
      x_z[k] = vec2<f32>(next_dt_x[k].y, 0.0);
      if (t < count && own_d < params.inner) { x_z[k].y = z[(first + t) * params.z_stride + params.z_first + own_d]; }
    }
    workgroupBarrier();
    load_tile(first + TILE, end, own_d, index);
    for (var t = 0u; t < count; t++) {
      let dt_x = tile_dt_x[t * CHANNELS + index / LANES];
      var sum = States();
      for (var j = 0u; j < SHARE; j++) {
        let b = t * 2u * ROW + j * LANES + index % LANES;
        h[j] = recur(h[j], dt_x.x, a[j], dt_x.x * dt_x.y, tile_bc[b]);
        sum += tile_bc[b + ROW] * h[j];
      }
      keep_sum(t, total(sum), index);
    }
    workgroupBarrier();
    for (var k = 0u; k < OWN; k++) {
      let t = own_token(k, index);
      if (t < count && own_d < params.inner) {
        y[(first + t) * params.stride + own_d] = (kept_sum(t, index % CHANNELS) + skip * x_z[k].x) * silu(x_z[k].y);
      }
    }
  }

  if (end == batch.rows && d < params.inner) {
    for (var j = 0u; j < SHARE; j++) {
      let values = values_of(h[j]);
      for (var w = 0u; w < WIDTH; w++) {
        let n = state_at(j, w, index);
        if (n < N) { state[((slot + batch.write_version) * N + n) * params.inner + d] = values[w]; }
      }
    }
  }
}
