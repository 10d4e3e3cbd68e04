// Y = X W^T for the tokens of a prefill chunk, then the epilogue. A workgroup of LANES (16 x 16) lanes makes a tile of SIDE x
// SIDE through workgroup memory, DEPTH values of k at a time; each lane makes 4 BLOCKS x 4 BLOCKS of it in registers, as 4x4
// matrices. The next DEPTH values are fetched while the present ones are multiplied. The sum over k runs in the same order for
// every token of every chunk. k is cut into SLICES slices, whose sums are SLICES planes of y.
const SIDE: u32 = BLOCK_SIDE * BLOCKS;  // tokens and rows of a tile
const QUADS_A_SIDE: u32 = SIDE / 4u;
const STEP_QUADS: u32 = DEPTH / 4u;
const STEP_PARTS: u32 = STEP_QUADS / PART_QUADS;

var<workgroup> x_tile: array<vec4<f32>, DEPTH * QUADS_A_SIDE>;  // [k, tokens / 4]
var<workgroup> w_tile: array<vec4<f32>, DEPTH * QUADS_A_SIDE>;  // [k, rows / 4]

// The part that a lane fetches: 4 lines of a tile, `part` of the step's k. Eight adjacent lanes store adjacent memory, and the
// lanes after them continue in the same lines.
struct Place { line: u32, part: u32 }

fn place(lane: u32, parts: u32) -> Place { return Place(4u * (lane % 8u + 8u * (lane / (8u * parts))), lane / 8u % parts); }

// k-major: column i of `lines` is line i's four values of k.
fn store_x(quad: u32, line: u32, lines: mat4x4<f32>) {
  let by_k = transpose(lines);
  for (var i = 0u; i < 4u; i++) { x_tile[(4u * quad + i) * QUADS_A_SIDE + line / 4u] = by_k[i]; }
}

fn store_w(quad: u32, line: u32, lines: mat4x4<f32>) {
  let by_k = transpose(lines);
  for (var i = 0u; i < 4u; i++) { w_tile[(4u * quad + i) * QUADS_A_SIDE + line / 4u] = by_k[i]; }
}

// Column i: token i, four rows.
fn outer(tokens: vec4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(rows * tokens.x, rows * tokens.y, rows * tokens.z, rows * tokens.w);
}

fn store_y(plane: u32, first_token: u32, first_row: u32, sums: mat4x4<f32>) {
  for (var t = 0u; t < 4u; t++) {
    for (var r = 0u; r < 4u; r++) {
      let token = first_token + t;
      if (token < batch.rows && first_row + r < params.rows) {
        let out = params.first + first_row + r;
        y[plane + token * params.y_stride + out] = finish(token, out, sums[t][r]);
      }
    }
  }
}

@compute @workgroup_size(LANES)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  prepare_weights(lane, LANES);
  let slice = group.y % SLICES;
  let first_token = group.y / SLICES * SIDE;
  let first_row = group.x * SIDE;
  let last_token = batch.rows - 1u;
  let last_row = params.rows - 1u;

  // The lower lanes fetch x, the upper lanes W.
  let of_x = place(lane, STEP_QUADS);
  let fetches_x = lane < QUADS_A_SIDE * STEP_QUADS;
  let of_w = place(lane % 128u, STEP_PARTS);
  let fetches_w = lane >= 128u && lane - 128u < QUADS_A_SIDE * STEP_PARTS;
  var x_next = mat4x4<f32>();
  var w_next = array<Unit, 4>();

  var c00 = mat4x4<f32>();
  var c01 = mat4x4<f32>();
  var c10 = mat4x4<f32>();
  var c11 = mat4x4<f32>();
  let lane_token = lane / 16u;
  let lane_row = lane % 16u;

  let steps = (params.units * QUADS + STEP_QUADS - 1u) / STEP_QUADS;
  let slice_steps = (steps + SLICES - 1u) / SLICES;
  let first_step = min(slice * slice_steps, steps);
  let end = min(first_step + slice_steps, steps);
  for (var step = first_step; step <= end; step++) {
    // Store the values fetched in the last iteration, fetch those of the next, multiply the stored ones.
    if (step > first_step) {
      if (fetches_x) { store_x(of_x.part, of_x.line, x_next); }
      if (fetches_w) {
        let first = of_w.part * PART_QUADS;
        for (var i = 0u; i < PART_QUADS; i++) {
          let q = ((step - 1u) * STEP_QUADS + first + i) % QUADS;
          store_w(first + i, of_w.line, mat4x4<f32>(
            unpack_quad(w_next[0], q),
            unpack_quad(w_next[1], q),
            unpack_quad(w_next[2], q),
            unpack_quad(w_next[3], q),
          ));
        }
      }
    }
    workgroupBarrier();
    if (step < end) {
      if (fetches_x) {
        let quad = min(step * STEP_QUADS + of_x.part, params.x_stride - 1u);
        let token = first_token + of_x.line;
        x_next = mat4x4<f32>(
          x[min(token, last_token) * params.x_stride + quad],
          x[min(token + 1u, last_token) * params.x_stride + quad],
          x[min(token + 2u, last_token) * params.x_stride + quad],
          x[min(token + 3u, last_token) * params.x_stride + quad],
        );
      }
      if (fetches_w) {
        let unit = (step * STEP_QUADS + of_w.part * PART_QUADS) / QUADS;
        let row = first_row + of_w.line;
        for (var i = 0u; i < 4u; i++) {
          w_next[i] = Unit();  // zeros past the end of k
          if (unit < params.units) { w_next[i] = load_unit(min(row + i, last_row), unit, params.units); }
        }
      }
    }
    if (step > first_step) {
      for (var k = 0u; k < DEPTH; k++) {
        let tokens = x_tile[k * QUADS_A_SIDE + lane_token];
        let rows = w_tile[k * QUADS_A_SIDE + lane_row];
        c00 += outer(tokens, rows);
        if (BLOCKS == 2u) {
          let more_tokens = x_tile[k * QUADS_A_SIDE + 16u * (BLOCKS - 1u) + lane_token];
          let more_rows = w_tile[k * QUADS_A_SIDE + 16u * (BLOCKS - 1u) + lane_row];
          c01 += outer(tokens, more_rows);
          c10 += outer(more_tokens, rows);
          c11 += outer(more_tokens, more_rows);
        }
      }
    }
    workgroupBarrier();
  }

  let plane = slice * params.plane;
  let token = first_token + 4u * lane_token;
  let row = first_row + 4u * lane_row;
  store_y(plane, token, row, c00);
  if (BLOCKS == 2u) {
    store_y(plane, token, row + BLOCK_SIDE, c01);
    store_y(plane, token + BLOCK_SIDE, row, c10);
    store_y(plane, token + BLOCK_SIDE, row + BLOCK_SIDE, c11);
  }
}
