// The embedding's output for the first product: each f32 value in its place.
@group(0) @binding(4) var<storage, read_write> normed: array<f32>;   // [rows, hidden], in the order of its consumer

// Units per iteration of a lane.
const GROUP_UNITS: u32 = 1u;

fn put(row: u32, column: u32, value: f32, lanes: Lanes) {
  if (column < params.dim) { normed[row * params.x_stride + placed(column, params.order_shift, params.order_units)] = value; }
}

fn finish_group(row: u32, unit: u32, lanes: Lanes) {}
