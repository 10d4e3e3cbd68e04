// Y = X W^T for the tokens of a prefill chunk, then the epilogue. Each lane makes TOKENS tokens x LANE_ROWS rows (4) in
// registers and shares nothing, so there is no barrier. The sum over k runs in the same order for every token of every chunk. k is cut
// into SLICES slices, whose sums are SLICES planes of y.
override WG: u32 = 32u;

@compute @workgroup_size(WG)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  prepare_weights(lane, WG);
  let slice = group.y % SLICES;
  let first_token = group.y / SLICES * TOKENS;
  let last_token = batch.rows - 1u;
  let row = group.x * WG * LANE_ROWS + lane;  // and every WG-th row after it, so that adjacent lanes write adjacent memory
  let last = params.rows - 1u;

  var sums = array<vec4<f32>, TOKENS>();
  let slice_units = (params.units + SLICES - 1u) / SLICES;
  let end = min((slice + 1u) * slice_units, params.units);
  for (var unit = slice * slice_units; unit < end; unit++) {
    let u0 = load_unit(min(row, last), unit, params.units);
    let u1 = load_unit(min(row + WG, last), unit, params.units);
    let u2 = load_unit(min(row + 2u * WG, last), unit, params.units);
    let u3 = load_unit(min(row + 3u * WG, last), unit, params.units);
    for (var q = 0u; q < QUADS; q++) {
      let w0 = unpack_quad(u0, q);
      let w1 = unpack_quad(u1, q);
      let w2 = unpack_quad(u2, q);
      let w3 = unpack_quad(u3, q);
      for (var t = 0u; t < TOKENS; t++) {
        let v = x[min(first_token + t, last_token) * params.x_stride + unit * QUADS + q];
        sums[t] += vec4<f32>(dot(w0, v), dot(w1, v), dot(w2, v), dot(w3, v));
      }
    }
  }

  for (var t = 0u; t < TOKENS; t++) {
    let token = first_token + t;
    for (var i = 0u; i < LANE_ROWS; i++) {
      let r = row + i * WG;
      if (token <= last_token && r <= last) {
        let out = params.first + r;
        y[slice * params.plane + token * params.y_stride + out] = finish(token, out, sums[t][i]);
      }
    }
  }
}
