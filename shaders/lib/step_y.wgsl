// Output of a scan step: y in f32.
@group(0) @binding(8) var<storage, read_write> y: array<f32>;   // [rows, D], in the order of its consumer

fn put(r: u32, d: u32, value: f32, there: bool, lanes: Lanes) {
  if (there) { y[r * params.y_stride + placed(d, params.y_shift, params.order_units)] = value; }
}

fn write_groups(r: u32, group: Group, lanes: Lanes) {}
