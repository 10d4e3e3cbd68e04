// Y = X W^T for the tokens of a prefill chunk, then the epilogue, by cooperative matrices of f16 with f32 accumulators. A workgroup of
// TOKEN_BLOCKS x ROW_BLOCKS subgroups makes a tile of TOKENS x ROWS of y, each subgroup a block of BLOCK x 2 matrices, BLOCK 2 or 4. A
// step takes DEPTH values of k through workgroup memory; the values of the next step load into registers while matrices are multiplied.
// k is cut into SLICES slices of whole steps, whose sums are SLICES planes of y.
// f16 has neither the range nor the precision of f32. Each token's x is scaled by the power of two that brings its largest value to
// 2^14..2^15, and if SPLIT_X is set each value is split in two: v = high + low, 22 bits together. Rows of W likewise.
// Values below 2^-39 of their token's (row's) largest value are lost. The last step undoes the scales.
@group(1) @binding(1) var<storage, read> x_tops: array<u32>;  // [tokens]: exponents of the largest values, with f32's bias
@group(1) @binding(2) var<storage, read> w_tops: array<u32>;  // [rows], if SCALE_W is set

const DEPTH_QUADS: u32 = DEPTH / 4u;
const LINE: u32 = DEPTH_QUADS + 2u;  // quads of a line in workgroup memory: 16 bytes of padding spread the lines over its banks
const TOP: i32 = 14;                 // exponent of the largest value after scaling; f16 ends at 15

const X_PARTS: u32 = (TOKENS * DEPTH_QUADS + WG - 1u) / WG;  // quads of x that a lane loads in a step
const W_QUADS: u32 = min(QUADS, 4u);                         // quads of a unit of W that a lane unpacks
const W_LINE_PARTS: u32 = DEPTH_QUADS / W_QUADS;
const W_PARTS: u32 = (ROWS * W_LINE_PARTS + WG - 1u) / WG;   // parts of W_QUADS that a lane loads in a step

// Every array has a multiple of 16 bytes, also those that are not used: cooperative loads need that alignment, and a driver that
// places one array after the other would misalign what follows a shorter one.
var<workgroup> x_high: array<vec4<f16>, TOKENS * LINE>;  // [token, k]
var<workgroup> x_low: array<vec4<f16>, max(2u, SPLIT_X * TOKENS * LINE)>;
var<workgroup> w_high: array<vec4<f16>, ROWS * LINE>;    // [row, k]
var<workgroup> w_low: array<vec4<f16>, max(2u, SPLIT_W * ROWS * LINE)>;
// The epilogue takes one matrix of each of FINISHED subgroups at a time.
const FINISHED: u32 = min(4u, TOKEN_BLOCKS * ROW_BLOCKS);
var<workgroup> sums: array<f32, FINISHED * SIZE * SIZE>;

// v rounded to the 11 bits of f16, still in f32. Done on the bits: compilers simplify f32(f16(v)) to v, which would make the
// low part zero.
fn rounded(v: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((bitcast<vec4<u32>>(v) + vec4<u32>(0x1000u)) & vec4<u32>(0xffffe000u));
}

fn shift(top: u32) -> i32 { return TOP + 127 - i32(top); }

fn x_shift(token: u32) -> i32 { return shift(x_tops[token]); }

fn w_shift(row: u32) -> i32 {
  if (SCALE_W == 0u) { return 0; }
  return shift(w_tops[row]);
}

// The values that a lane loads for a step, and the exponents that scale them: a lane has the same tokens and rows in each step.
struct Ahead {
  x: array<vec4<f32>, X_PARTS>,
  w: array<Unit, W_PARTS>,
  x_up: array<i32, X_PARTS>,
  w_up: array<i32, W_PARTS>,
}

fn token_of_part(j: u32, first_token: u32, lane: u32) -> u32 {
  return min(first_token + (lane + j * WG) / DEPTH_QUADS, batch.rows - 1u);
}

fn row_of_part(j: u32, first_row: u32, lane: u32) -> u32 {
  return min(first_row + (lane + j * WG) / W_LINE_PARTS, params.rows - 1u);
}

fn fetch_exponents(ahead: ptr<function, Ahead>, first_token: u32, first_row: u32, lane: u32) {
  for (var j = 0u; j < X_PARTS; j++) { (*ahead).x_up[j] = x_shift(token_of_part(j, first_token, lane)); }
  for (var j = 0u; j < W_PARTS; j++) { (*ahead).w_up[j] = w_shift(row_of_part(j, first_row, lane)); }
}

fn fetch(ahead: ptr<function, Ahead>, step: u32, first_token: u32, first_row: u32, lane: u32) {
  for (var j = 0u; j < W_PARTS; j++) {
    let i = lane + j * WG;
    let unit = (step * DEPTH_QUADS + i % W_LINE_PARTS * W_QUADS) / QUADS;
    (*ahead).w[j] = Unit();  // zeros past the end of k
    if (unit < params.units) { (*ahead).w[j] = load_unit(row_of_part(j, first_row, lane), unit, params.units); }
  }
  for (var j = 0u; j < X_PARTS; j++) {
    let i = lane + j * WG;
    (*ahead).x[j] = x[token_of_part(j, first_token, lane) * params.x_stride + min(step * DEPTH_QUADS + i % DEPTH_QUADS, params.x_stride - 1u)];
  }
}

fn stage(ahead: ptr<function, Ahead>, step: u32, lane: u32) {
  for (var j = 0u; j < X_PARTS; j++) {
    let i = lane + j * WG;
    if (i < TOKENS * DEPTH_QUADS) {
      let line = i / DEPTH_QUADS;
      let s = scaled((*ahead).x[j], (*ahead).x_up[j]);
      let wide = rounded(s);
      let at = line * LINE + i % DEPTH_QUADS;
      x_high[at] = vec4<f16>(wide);
      if (SPLIT_X == 1u) { x_low[at] = vec4<f16>(s - wide); }
    }
  }
  for (var j = 0u; j < W_PARTS; j++) {
    let i = lane + j * WG;
    if (i < ROWS * W_LINE_PARTS) {
      let line = i / W_LINE_PARTS;
      let first_quad = i % W_LINE_PARTS * W_QUADS;
      for (var q = 0u; q < W_QUADS; q++) {
        var s = unpack_quad((*ahead).w[j], (step * DEPTH_QUADS + first_quad + q) % QUADS);
        if (SCALE_W == 1u) { s = scaled(s, (*ahead).w_up[j]); }
        let wide = rounded(s);
        let at = line * LINE + first_quad + q;
        w_high[at] = vec4<f16>(wide);
        if (SPLIT_W == 1u) { w_low[at] = vec4<f16>(s - wide); }
      }
    }
  }
}

@compute @workgroup_size(WG)
fn matmul(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  prepare_weights(lane, WG);
  let slice = group.y % SLICES;
  let first_token = group.y / SLICES * TOKENS;
  let first_row = group.x * ROWS;
  // This subgroup's block in the tile: tokens from t, rows from r. Subgroups are counted along the lanes: one driver crashes on
  // modules that have subgroup operations beside cooperative matrices, and a driver that counts otherwise fails the trial.
  let subgroup = lane / (WG / (TOKEN_BLOCKS * ROW_BLOCKS));
  let t = subgroup / ROW_BLOCKS * BLOCK * SIZE;
  let r = subgroup % ROW_BLOCKS * 2u * SIZE;
  var c00 = Sums();
  var c01 = Sums();
  var c10 = Sums();
  var c11 = Sums();
  var c20 = Sums();
  var c21 = Sums();
  var c30 = Sums();
  var c31 = Sums();

  let steps = (params.units * QUADS + DEPTH_QUADS - 1u) / DEPTH_QUADS;
  let slice_steps = (steps + SLICES - 1u) / SLICES;
  let first_step = min(slice * slice_steps, steps);
  let end = min(first_step + slice_steps, steps);
  var ahead = Ahead();
  fetch_exponents(&ahead, first_token, first_row, lane);
  fetch(&ahead, first_step, first_token, first_row, lane);
  for (var step = first_step; step < end; step++) {
    stage(&ahead, step, lane);
    workgroupBarrier();
    if (step + 1u < end) { fetch(&ahead, step + 1u, first_token, first_row, lane); }
    for (var k = 0u; k < DEPTH_QUADS; k += SIZE / 4u) {
      let t0 = t * LINE + k;
      let r0 = r * LINE + k;
      let rows0 = coopLoad<Rows>(&w_high[r0], LINE);
      let rows1 = coopLoad<Rows>(&w_high[r0 + SIZE * LINE], LINE);
      var rows_low0 = rows0;
      var rows_low1 = rows1;
      if (SPLIT_W == 1u) {
        rows_low0 = coopLoad<Rows>(&w_low[r0], LINE);
        rows_low1 = coopLoad<Rows>(&w_low[r0 + SIZE * LINE], LINE);
      }
      let tokens0 = coopLoadT<Tokens>(&x_high[t0], LINE);
      let tokens1 = coopLoadT<Tokens>(&x_high[t0 + SIZE * LINE], LINE);
      // Small products first.
      if (SPLIT_X == 1u) {
        let low0 = coopLoadT<Tokens>(&x_low[t0], LINE);
        let low1 = coopLoadT<Tokens>(&x_low[t0 + SIZE * LINE], LINE);
        c00 = coopMultiplyAdd(low0, rows0, c00);
        c01 = coopMultiplyAdd(low0, rows1, c01);
        c10 = coopMultiplyAdd(low1, rows0, c10);
        c11 = coopMultiplyAdd(low1, rows1, c11);
      }
      if (SPLIT_W == 1u) {
        c00 = coopMultiplyAdd(tokens0, rows_low0, c00);
        c01 = coopMultiplyAdd(tokens0, rows_low1, c01);
        c10 = coopMultiplyAdd(tokens1, rows_low0, c10);
        c11 = coopMultiplyAdd(tokens1, rows_low1, c11);
      }
      c00 = coopMultiplyAdd(tokens0, rows0, c00);
      c01 = coopMultiplyAdd(tokens0, rows1, c01);
      c10 = coopMultiplyAdd(tokens1, rows0, c10);
      c11 = coopMultiplyAdd(tokens1, rows1, c11);
      if (BLOCK > 2u) {
        let tokens2 = coopLoadT<Tokens>(&x_high[t0 + 2u * SIZE * LINE], LINE);
        let tokens3 = coopLoadT<Tokens>(&x_high[t0 + 3u * SIZE * LINE], LINE);
        if (SPLIT_X == 1u) {
          let low2 = coopLoadT<Tokens>(&x_low[t0 + 2u * SIZE * LINE], LINE);
          let low3 = coopLoadT<Tokens>(&x_low[t0 + 3u * SIZE * LINE], LINE);
          c20 = coopMultiplyAdd(low2, rows0, c20);
          c21 = coopMultiplyAdd(low2, rows1, c21);
          c30 = coopMultiplyAdd(low3, rows0, c30);
          c31 = coopMultiplyAdd(low3, rows1, c31);
        }
        if (SPLIT_W == 1u) {
          c20 = coopMultiplyAdd(tokens2, rows_low0, c20);
          c21 = coopMultiplyAdd(tokens2, rows_low1, c21);
          c30 = coopMultiplyAdd(tokens3, rows_low0, c30);
          c31 = coopMultiplyAdd(tokens3, rows_low1, c31);
        }
        c20 = coopMultiplyAdd(tokens2, rows0, c20);
        c21 = coopMultiplyAdd(tokens2, rows1, c21);
        c30 = coopMultiplyAdd(tokens3, rows0, c30);
        c31 = coopMultiplyAdd(tokens3, rows1, c31);
      }
    }
    workgroupBarrier();
  }

  // The lanes of the workgroup finish one matrix of a few subgroups at a time.
  for (var from_subgroup = 0u; from_subgroup < TOKEN_BLOCKS * ROW_BLOCKS; from_subgroup += FINISHED) {
    for (var part = 0u; part < 2u * BLOCK; part++) {
      if (subgroup >= from_subgroup && subgroup < from_subgroup + FINISHED) {
        let own = (subgroup - from_subgroup) * SIZE * SIZE;
        if (part < 4u) {
          switch part {
            case 0u: { coopStoreT(c00, &sums[own], SIZE); }
            case 1u: { coopStoreT(c01, &sums[own], SIZE); }
            case 2u: { coopStoreT(c10, &sums[own], SIZE); }
            default: { coopStoreT(c11, &sums[own], SIZE); }
          }
        } else if (BLOCK > 2u) {
          switch part {
            case 4u: { coopStoreT(c20, &sums[own], SIZE); }
            case 5u: { coopStoreT(c21, &sums[own], SIZE); }
            case 6u: { coopStoreT(c30, &sums[own], SIZE); }
            default: { coopStoreT(c31, &sums[own], SIZE); }
          }
        }
      }
      workgroupBarrier();
      for (var i = lane; i < FINISHED * SIZE * SIZE; i += WG) {
        let of_subgroup = from_subgroup + i / (SIZE * SIZE);
        let token = first_token + (of_subgroup / ROW_BLOCKS * BLOCK + part / 2u) * SIZE + i / SIZE % SIZE;
        let row = first_row + (of_subgroup % ROW_BLOCKS * 2u + part % 2u) * SIZE + i % SIZE;
        if (token < batch.rows && row < params.rows) {
          let out = params.first + row;
          let down = -(x_shift(token) + w_shift(row));
          y[slice * params.plane + token * params.y_stride + out] = finish(token, out, scaled(vec4<f32>(sums[i]), down).x);
        }
      }
      workgroupBarrier();
    }
  }
}
