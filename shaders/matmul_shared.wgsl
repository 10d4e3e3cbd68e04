// Y = X W^T for the tokens of a prefill chunk, then the epilogue, by subgroups of SUBGROUP (8) lanes. Each lane makes TOKENS
// (16) tokens x LANE_ROWS (4) rows in registers. Lane i reads x for tokens i and i + 8 and broadcasts it: a CPU driver loads
// lane by lane even if all lanes read the same address. There is no barrier. The sum over k runs in the same order for every
// token of every chunk. k is cut into SLICES slices, whose sums are SLICES planes of y.

@compute @workgroup_size(SUBGROUP)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  prepare_weights(lane, SUBGROUP);
  let slice = group.y % SLICES;
  let first_token = group.y / SLICES * TOKENS;
  let last_token = batch.rows - 1u;
  let row = group.x * SUBGROUP * LANE_ROWS + lane;  // and every 8th row after it, so that adjacent lanes write adjacent memory
  let last = params.rows - 1u;
  let line = min(first_token + lane, last_token) * params.x_stride;
  let other_line = min(first_token + SUBGROUP + lane, last_token) * params.x_stride;

  var sums = array<vec4<f32>, TOKENS>();
  let slice_units = (params.units + SLICES - 1u) / SLICES;
  let end = min((slice + 1u) * slice_units, params.units);
  for (var unit = slice * slice_units; unit < end; unit++) {
    let u0 = load_unit(min(row, last), unit, params.units);
    let u1 = load_unit(min(row + SUBGROUP, last), unit, params.units);
    let u2 = load_unit(min(row + 2u * SUBGROUP, last), unit, params.units);
    let u3 = load_unit(min(row + 3u * SUBGROUP, last), unit, params.units);
    for (var q = 0u; q < QUADS; q++) {
      let w = Quads(unpack_quad(u0, q), unpack_quad(u1, q), unpack_quad(u2, q), unpack_quad(u3, q));
      multiply(&sums, w, x[line + unit * QUADS + q], x[other_line + unit * QUADS + q]);
    }
  }

  let plane = slice * params.plane;
  store(plane, first_token + 0u, row, sums[0]);
  store(plane, first_token + 1u, row, sums[1]);
  store(plane, first_token + 2u, row, sums[2]);
  store(plane, first_token + 3u, row, sums[3]);
  store(plane, first_token + 4u, row, sums[4]);
  store(plane, first_token + 5u, row, sums[5]);
  store(plane, first_token + 6u, row, sums[6]);
  store(plane, first_token + 7u, row, sums[7]);
  store(plane, first_token + 8u, row, sums[8]);
  store(plane, first_token + 9u, row, sums[9]);
  store(plane, first_token + 10u, row, sums[10]);
  store(plane, first_token + 11u, row, sums[11]);
  store(plane, first_token + 12u, row, sums[12]);
  store(plane, first_token + 13u, row, sums[13]);
  store(plane, first_token + 14u, row, sums[14]);
  store(plane, first_token + 15u, row, sums[15]);
}

// One token's values of this lane's rows, in the slice's plane.
fn store(plane: u32, token: u32, row: u32, sums: vec4<f32>) {
  store_one(plane, token, row, sums.x);
  store_one(plane, token, row + SUBGROUP, sums.y);
  store_one(plane, token, row + 2u * SUBGROUP, sums.z);
  store_one(plane, token, row + 3u * SUBGROUP, sums.w);
}

fn store_one(plane: u32, token: u32, row: u32, sum: f32) {
  if (token < batch.rows && row < params.rows) {
    let out = params.first + row;
    y[plane + token * params.y_stride + out] = finish(token, out, sum);
  }
}
