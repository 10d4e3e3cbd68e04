// What a product becomes: added to the residual stream, and made ready for the next norm: multiplied with its weights, and
// its squares summed up by a few rows.
@group(0) @binding(4) var<storage, read> residual: array<f32>;            // [tokens, out], laid out as y
@group(0) @binding(5) var<storage, read> next_norm: array<f32>;           // [out]
@group(0) @binding(6) var<storage, read_write> normed: array<f32>;        // [tokens, out], in the order of what reads it
@group(0) @binding(7) var<storage, read_write> next_squares: array<f32>;  // [tokens, squares_out], filled up to whole vec4s

const SQUARES: bool = true;

var<private> residual_ahead: f32;
var<private> norm_ahead: f32;

// Loads what it needs beside the sum.
fn foresee(token: u32, row: u32) {
  residual_ahead = residual[token * params.y_stride + row];
  norm_ahead = next_norm[row];
}

fn finish(token: u32, row: u32, sum: f32) -> f32 {
  let value = residual_ahead + sum;
  normed[token * params.y_stride + placed(row, params.order_shift, params.order_units)] = value * norm_ahead;
  return value;
}

fn put_squares(token: u32, part: u32, sum: f32) { next_squares[token * ((params.squares_out + 3u) / 4u * 4u) + part] = sum; }

fn y_at(token: u32, row: u32) -> u32 { return token * params.y_stride + row; }
