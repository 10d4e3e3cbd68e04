// Output of a scan step: y packed as int8 in groups of 32 channels. A workgroup has whole groups: CHANNELS is a multiple of 32.
@group(0) @binding(8) var<storage, read_write> y: array<u32>;   // [rows, groups], see `pack_quad`

const CHANNELS: u32 = KEPT;

fn put(r: u32, d: u32, value: f32, there: bool, lanes: Lanes) {
  if (lanes.index % LANES == 0u) { kept[lanes.index / LANES] = select(0.0, value, there); }
}

fn put_word(at: u32, word: u32) { y[at] = word; }

// Writes the groups of the workgroup, one quad per lane.
fn write_groups(r: u32, group: Group, lanes: Lanes) {
  workgroupBarrier();
  for (var item = lanes.index; item < CHANNELS / 4u; item += WG) {
    let channel = group.id.x * CHANNELS + item / 8u * 32u;
    if (channel < params.rows) {
      pack_quad(item / 8u * 32u, item % 8u, r * params.y_stride, (params.first + channel) / 32u, params.order_units);
    }
  }
  workgroupBarrier();  // the next row reuses `kept`
}
