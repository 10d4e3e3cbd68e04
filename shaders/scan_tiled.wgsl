// scan.wgsl for GPUs: LANES lanes per channel hold its states, and the workgroup processes the tokens tile by tile, with two
// barriers per tile. Lanes past the last channel work on zeros, so that all lanes reach the barriers.

@compute @workgroup_size(WG)
fn scan(group: Group, lanes: Lanes) {
  let index = lane_index(group, lanes);
  let groups = (params.inner + CHANNELS - 1u) / CHANNELS;
  let segments = (sequence_rows() + params.segment - 1u) / params.segment;
  let channels = channels_of(group.id.x, groups) * CHANNELS;
  let d = channels + index / LANES;
  let own_d = channels + index % CHANNELS;  // the channel that this lane loads and writes
  let s = Sequence(picture_of_part(group.id.y, segments), direction_of(group.id.x, groups));
  let segment = part_of(group.id.y, segments);
  let start = segment * params.segment;
  let end = min(sequence_rows(), start + params.segment);
  let carried = sequence_number(s) * segments + segment;
  let weights = weights_row(s, N + 1u);

  var h = array<States, SHARE>();
  var a = array<States, SHARE>();
  for (var j = 0u; j < SHARE; j++) {
    var h_values = array<f32, WIDTH>();
    var a_values = array<f32, WIDTH>();
    for (var w = 0u; w < WIDTH; w++) {
      let n = state_at(j, w, index);
      h_values[w] = 0.0;
      a_values[w] = 0.0;
      if (n < N && d < params.inner) {
        a_values[w] = a_skip[(weights + n) * params.inner + d];
        if (segment == 0u) {
          h_values[w] = h_before(n, d);
        } else {
          h_values[w] = carry[(carried * N + n) * params.inner + d];
        }
      }
    }
    h[j] = states_of(h_values);
    a[j] = states_of(a_values);
  }
  var skip = 0.0;
  if (own_d < params.inner) { skip = a_skip[(weights + N) * params.inner + own_d]; }

  load_tile(s, start, end, own_d, index);
  for (var first = start; first < end; first += TILE) {
    let count = min(TILE, end - first);
    keep_tile(index);
    var x_z = array<vec2<f32>, OWN>();
    for (var k = 0u; k < OWN; k++) {
      let t = own_token(k, index);
      x_z[k] = vec2<f32>(next_dt_x[k].y, 0.0);
      if (t < count && own_d < params.inner) {
        x_z[k].y = z[shared_row(s, first + t) * params.z_stride + params.z_first + own_d];
      }
    }
    workgroupBarrier();
    load_tile(s, first + TILE, end, own_d, index);
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
        let at = own_row(s, first + t) * params.stride + own_d;
        put_y(at, (kept_sum(t, index % CHANNELS) + skip * x_z[k].x) * silu(x_z[k].y));
      }
    }
  }

  if (end == sequence_rows() && d < params.inner) {
    for (var j = 0u; j < SHARE; j++) {
      let values = values_of(h[j]);
      for (var w = 0u; w < WIDTH; w++) {
        let n = state_at(j, w, index);
        if (n < N) { keep_h(n, d, values[w]); }
      }
    }
  }
}
