// Y = X W^T for the tokens of a prefill chunk, then the epilogue, by cooperative matrices of f16 with sums in f32. A workgroup
// is four subgroups and makes a tile of SIDE x SIDE, each subgroup 2 x 2 matrices of it.
// f16 has neither the range nor the digits of f32. So each token's x is scaled by the power of two that brings its largest
// value to 2^14..2^15, and where SPLIT_X is set its value is cut in two: v = high + low, 22 bits together. W by rows likewise.
// What is below 2^-39 of its token's (row's) largest value is lost. The last step undoes the scales.
const SIDE: u32 = 4u * SIZE;
const DEPTH: u32 = 16u;               // values of k a step
const STEP_QUADS: u32 = DEPTH / 4u;
const STEP_PARTS: u32 = STEP_QUADS / PART_QUADS;
const TOP: i32 = 14;                  // exponent of the largest value after scaling; f16 ends at 15

var<workgroup> x_high: array<f16, SIDE * DEPTH>;  // [token, k]
var<workgroup> x_low: array<f16, SIDE * DEPTH>;
var<workgroup> w_high: array<f16, SIDE * DEPTH>;  // [row, k]
var<workgroup> w_low: array<f16, SIDE * DEPTH>;
var<workgroup> x_top: array<atomic<u32>, SIDE>;   // exponent of each token's largest value, with f32's bias
var<workgroup> w_top: array<atomic<u32>, SIDE>;
var<workgroup> sums: array<f32, 4u * SIZE * SIZE>;  // one matrix a subgroup

fn power_of_two(e: i32) -> f32 { return bitcast<f32>(u32(clamp(e, -126, 127) + 127) << 23u); }

// v * 2^e in two steps, since 2^e alone may be out of range.
fn scaled(v: vec4<f32>, e: i32) -> vec4<f32> { return v * power_of_two(e / 2) * power_of_two(e - e / 2); }

fn exponent(v: vec4<f32>) -> u32 {
  let m = max(max(abs(v.x), abs(v.y)), max(abs(v.z), abs(v.w)));
  return bitcast<u32>(m) >> 23u;
}

// v rounded to the 11 bits that f16 holds, still in f32. By bits: compilers take f32(f16(v)) for v, and nothing would be
// left to be the low part.
fn rounded(v: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((bitcast<vec4<u32>>(v) + vec4<u32>(0x1000u)) & vec4<u32>(0xffffe000u));
}

fn shift(top: u32) -> i32 { return TOP + 127 - i32(top); }

@compute @workgroup_size(WG)
fn matmul(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  prepare_weights(lane, WG);
  let first_token = group.y * SIDE;
  let first_row = group.x * SIDE;
  let last_token = batch.rows - 1u;
  let last_row = params.rows - 1u;

  // The largest exponents, WG / SIDE lanes a line or a line after the other.
  for (var i = lane; i < SIDE * STEP_QUADS; i += WG) {
    let at = min(first_token + i / STEP_QUADS, last_token) * params.x_stride;
    var top = 0u;
    for (var quad = i % STEP_QUADS; quad < params.units * QUADS; quad += STEP_QUADS) { top = max(top, exponent(x[at + quad])); }
    atomicMax(&x_top[i / STEP_QUADS], top);
  }
  if (SCALE_W == 1u) {
    for (var i = lane; i < SIDE * STEP_PARTS; i += WG) {
      let row = min(first_row + i / STEP_PARTS, last_row);
      var top = 0u;
      for (var unit = i % STEP_PARTS; unit < params.units; unit += STEP_PARTS) {
        let bits = load_unit(row, unit, params.units);
        for (var q = 0u; q < QUADS; q++) { top = max(top, exponent(unpack_quad(bits, q))); }
      }
      atomicMax(&w_top[i / STEP_PARTS], top);
    }
  }
  workgroupBarrier();

  // This subgroup's matrices: tokens from t, rows from r, in the tile. The sums start as the zeros of workgroup memory.
  let t = (subgroup / 2u) * 2u * SIZE;
  let r = (subgroup % 2u) * 2u * SIZE;
  let own = subgroup * SIZE * SIZE;
  var c00 = coopLoad<Sums>(&sums[own], SIZE);
  var c01 = coopLoad<Sums>(&sums[own], SIZE);
  var c10 = coopLoad<Sums>(&sums[own], SIZE);
  var c11 = coopLoad<Sums>(&sums[own], SIZE);

  for (var first = 0u; first < params.units * QUADS; first += STEP_QUADS) {
    for (var i = lane; i < SIDE * STEP_QUADS; i += WG) {
      let line = i / STEP_QUADS;
      let quad = min(first + i % STEP_QUADS, params.x_stride - 1u);
      let v = x[min(first_token + line, last_token) * params.x_stride + quad];
      let s = scaled(v, shift(atomicLoad(&x_top[line])));
      let wide = rounded(s);
      let high = vec4<f16>(wide);
      for (var j = 0u; j < 4u; j++) { x_high[4u * i + j] = high[j]; }
      if (SPLIT_X == 1u) {
        let low = vec4<f16>(s - wide);
        for (var j = 0u; j < 4u; j++) { x_low[4u * i + j] = low[j]; }
      }
    }
    for (var i = lane; i < SIDE * STEP_PARTS; i += WG) {
      let line = i / STEP_PARTS;
      let first_quad = first + i % STEP_PARTS * PART_QUADS;
      let unit = first_quad / QUADS;
      var bits = Unit();  // zeros past the end of k
      if (unit < params.units) { bits = load_unit(min(first_row + line, last_row), unit, params.units); }
      for (var q = 0u; q < PART_QUADS; q++) {
        var s = unpack_quad(bits, (first_quad + q) % QUADS);
        if (SCALE_W == 1u) { s = scaled(s, shift(atomicLoad(&w_top[line]))); }
        let wide = rounded(s);
        let high = vec4<f16>(wide);
        let at = 4u * (i * PART_QUADS + q);
        for (var j = 0u; j < 4u; j++) { w_high[at + j] = high[j]; }
        if (SPLIT_W == 1u) {
          let low = vec4<f16>(s - wide);
          for (var j = 0u; j < 4u; j++) { w_low[at + j] = low[j]; }
        }
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k += SIZE) {
      let t0 = t * DEPTH + k;
      let t1 = t0 + SIZE * DEPTH;
      let r0 = r * DEPTH + k;
      let r1 = r0 + SIZE * DEPTH;
      let tokens0 = coopLoadT<Tokens>(&x_high[t0], DEPTH);
      let tokens1 = coopLoadT<Tokens>(&x_high[t1], DEPTH);
      let rows0 = coopLoad<Rows>(&w_high[r0], DEPTH);
      let rows1 = coopLoad<Rows>(&w_high[r1], DEPTH);
      if (SPLIT_X == 1u) {
        let low0 = coopLoadT<Tokens>(&x_low[t0], DEPTH);
        let low1 = coopLoadT<Tokens>(&x_low[t1], DEPTH);
        c00 = coopMultiplyAdd(low0, rows0, c00);
        c01 = coopMultiplyAdd(low0, rows1, c01);
        c10 = coopMultiplyAdd(low1, rows0, c10);
        c11 = coopMultiplyAdd(low1, rows1, c11);
      }
      if (SPLIT_W == 1u) {
        let low0 = coopLoad<Rows>(&w_low[r0], DEPTH);
        let low1 = coopLoad<Rows>(&w_low[r1], DEPTH);
        c00 = coopMultiplyAdd(tokens0, low0, c00);
        c01 = coopMultiplyAdd(tokens0, low1, c01);
        c10 = coopMultiplyAdd(tokens1, low0, c10);
        c11 = coopMultiplyAdd(tokens1, low1, c11);
      }
      c00 = coopMultiplyAdd(tokens0, rows0, c00);
      c01 = coopMultiplyAdd(tokens0, rows1, c01);
      c10 = coopMultiplyAdd(tokens1, rows0, c10);
      c11 = coopMultiplyAdd(tokens1, rows1, c11);
    }
    workgroupBarrier();
  }

  // The lanes of the workgroup finish one matrix of each subgroup at a time.
  for (var part = 0u; part < 4u; part++) {
    switch part {
      case 0u: { coopStoreT(c00, &sums[own], SIZE); }
      case 1u: { coopStoreT(c01, &sums[own], SIZE); }
      case 2u: { coopStoreT(c10, &sums[own], SIZE); }
      default: { coopStoreT(c11, &sums[own], SIZE); }
    }
    workgroupBarrier();
    for (var i = lane; i < 4u * SIZE * SIZE; i += WG) {
      let matrix = i / (SIZE * SIZE);
      let in_tile_token = ((matrix / 2u) * 2u + part / 2u) * SIZE + i / SIZE % SIZE;
      let in_tile_row = ((matrix % 2u) * 2u + part % 2u) * SIZE + i % SIZE;
      let token = first_token + in_tile_token;
      let row = first_row + in_tile_row;
      var shifts = shift(atomicLoad(&x_top[in_tile_token]));
      if (SCALE_W == 1u) { shifts += shift(atomicLoad(&w_top[in_tile_row])); }
      if (token <= last_token && row <= last_row) {
        let out = params.first + row;
        y[token * params.y_stride + out] = finish(token, out, scaled(vec4<f32>(sums[i]), -shifts).x);
      }
    }
    workgroupBarrier();
  }
}
