// The embedding's output for the first product: packed as int8 in groups of 32 values, one group at a time per lane.
@group(0) @binding(4) var<storage, read_write> normed: array<u32>;   // [rows, groups], see `pack_quad`

// Units per iteration of a lane: one group.
const GROUP_UNITS: u32 = 8u / QUADS;

fn put(row: u32, column: u32, value: f32, lanes: Lanes) {
  kept[32u * lanes.index + column % 32u] = select(0.0, value, column < params.dim);
}

fn put_word(at: u32, word: u32) { normed[at] = word; }

fn finish_group(row: u32, unit: u32, lanes: Lanes) {
  for (var quad = 0u; quad < 8u; quad++) {
    pack_quad(32u * lanes.index, quad, row * params.x_stride, unit / GROUP_UNITS, params.order_units);
  }
}
