// Y = X W^T for the tokens of a prefill chunk, then the epilogue, by subgroups of SUBGROUP (8) lanes. Each lane makes TOKENS
// (16) tokens x LANE_ROWS (4) rows in registers. Lane i reads x for tokens i and i + 8 and broadcasts it: a CPU driver loads
// lane by lane even if all lanes read the same address. There is no barrier. The sum over k runs in the same order for every
// token of every chunk.

@compute @workgroup_size(SUBGROUP)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  prepare_weights(lane, SUBGROUP);
  let first_token = group.y * TOKENS;
  let last_token = batch.rows - 1u;
  let row = group.x * SUBGROUP * LANE_ROWS + lane;  // and every 8th row after it, so that adjacent lanes write adjacent memory
  let last = params.rows - 1u;
  let line = min(first_token + lane, last_token) * params.x_stride;
  let other_line = min(first_token + SUBGROUP + lane, last_token) * params.x_stride;

  var sums: array<vec4<f32>, TOKENS>;
  for (var unit = 0u; unit < params.units; unit++) {
    let u0 = load_unit(min(row, last), unit, params.units);
    let u1 = load_unit(min(row + SUBGROUP, last), unit, params.units);
    let u2 = load_unit(min(row + 2u * SUBGROUP, last), unit, params.units);
    let u3 = load_unit(min(row + 3u * SUBGROUP, last), unit, params.units);
    for (var q = 0u; q < QUADS; q++) {
      let w = Quads(unpack_quad(u0, q), unpack_quad(u1, q), unpack_quad(u2, q), unpack_quad(u3, q));
      multiply(&sums, w, x[line + unit * QUADS + q], x[other_line + unit * QUADS + q]);
    }
  }

  store(first_token + 0u, row, sums[0]);
  store(first_token + 1u, row, sums[1]);
  store(first_token + 2u, row, sums[2]);
  store(first_token + 3u, row, sums[3]);
  store(first_token + 4u, row, sums[4]);
  store(first_token + 5u, row, sums[5]);
  store(first_token + 6u, row, sums[6]);
  store(first_token + 7u, row, sums[7]);
  store(first_token + 8u, row, sums[8]);
  store(first_token + 9u, row, sums[9]);
  store(first_token + 10u, row, sums[10]);
  store(first_token + 11u, row, sums[11]);
  store(first_token + 12u, row, sums[12]);
  store(first_token + 13u, row, sums[13]);
  store(first_token + 14u, row, sums[14]);
  store(first_token + 15u, row, sums[15]);
}

// One token's values of this lane's rows.
fn store(token: u32, row: u32, sums: vec4<f32>) {
  store_one(token, row, sums.x);
  store_one(token, row + SUBGROUP, sums.y);
  store_one(token, row + 2u * SUBGROUP, sums.z);
  store_one(token, row + 3u * SUBGROUP, sums.w);
}

fn store_one(token: u32, row: u32, sum: f32) {
  if (token < batch.rows && row < params.rows) {
    let out = params.first + row;
    y[token * params.y_stride + out] = finish(token, out, sum);
  }
}
