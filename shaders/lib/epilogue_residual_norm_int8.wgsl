// Epilogue: adds the residual stream and writes the input of the next norm: the stream times the norm's weights, packed as int8 in
// groups of 32 rows, each with the sum of its squares. A workgroup makes whole groups: ROWS is a multiple of 32.
@group(0) @binding(4) var<storage, read> residual: array<f32>;            // [tokens, out], laid out as y
@group(0) @binding(5) var<storage, read> next_norm: array<f32>;           // [out]
@group(0) @binding(6) var<storage, read_write> normed: array<u32>;        // [tokens, groups], see `pack_quad`
@group(0) @binding(7) var<storage, read_write> next_squares: array<f32>;  // [tokens, squares_out], padded to whole vec4s

const SQUARES: bool = false;

var<private> residual_ahead: f32;
var<private> norm_ahead: f32;
var<private> stream: f32;
var<workgroup> kept_squares: array<f32, KEPT>;

// Loads all operands but the sum.
fn preload(token: u32, row: u32) {
  residual_ahead = residual[token * params.y_stride + row];
  norm_ahead = next_norm[row];
}

fn finish(token: u32, row: u32, sum: f32) -> f32 {
  stream = residual_ahead + sum;
  return stream;
}

fn y_at(token: u32, row: u32) -> u32 { return token * params.y_stride + row; }

fn put_squares(token: u32, part: u32, sum: f32) {}

// Keeps the value finished last as row `row` of the workgroup; rows that do not exist are zero.
fn keep(x_row: u32, row: u32, there: bool) {
  if (row >= ROWS) { return; }
  kept[x_row * ROWS + row] = select(0.0, stream * norm_ahead, there);
  kept_squares[x_row * ROWS + row] = select(0.0, stream * stream, there);
}

fn put_word(at: u32, word: u32) { normed[at] = word; }

// Writes the groups of the workgroup, whose first row is `first`, one quad per lane.
fn write_groups(token: u32, first: u32, lanes: Lanes) {
  workgroupBarrier();
  for (var item = lanes.index; item < X_ROWS * ROWS / 4u; item += WG) {
    let x_row = item / (ROWS / 4u);
    let quad = item % 8u;
    let row = first + item % (ROWS / 4u) / 8u * 32u;
    if (token + x_row >= batch.rows || row >= params.rows) { continue; }
    let start = x_row * ROWS + row - first;
    let line = (token + x_row) * params.y_stride;
    pack_quad(start, quad, line, (params.first + row) / 32u, params.order_units);
    if (quad == 0u) {
      var sum = vec4<f32>();
      for (var i = start; i < start + 32u; i += 4u) {
        sum += vec4<f32>(kept_squares[i], kept_squares[i + 1u], kept_squares[i + 2u], kept_squares[i + 3u]);
      }
      let part = params.first_square + row / 32u;
      next_squares[(token + x_row) * ((params.squares_out + 3u) / 4u * 4u) + part] = (sum.x + sum.y) + (sum.z + sum.w);
    }
  }
}
