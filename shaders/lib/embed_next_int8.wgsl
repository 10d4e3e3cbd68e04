// What an embedding leaves for the first product: values packed as int8 by groups of 32, of which a lane has one at a time.
@group(0) @binding(4) var<storage, read_write> normed: array<u32>;   // [rows, groups], see `pack_quad`

// Units that a lane takes at a time: those of a group.
const GROUP_UNITS: u32 = 8u / QUADS;

fn leave(row: u32, column: u32, value: f32, lanes: Lanes) {
  kept[32u * lanes.index + column % 32u] = select(0.0, value, column < params.dim);
}

fn put_word(at: u32, word: u32) { normed[at] = word; }

fn leave_group(row: u32, unit: u32, lanes: Lanes) {
  for (var quad = 0u; quad < 8u; quad++) {
    pack_quad(32u * lanes.index, quad, row * params.x_stride, unit / GROUP_UNITS, params.order_units);
  }
}
