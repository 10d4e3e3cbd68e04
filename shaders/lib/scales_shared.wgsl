// All lanes of a workgroup compute the scales together; separate teams would each read the same squares. The sums of the subgroups
// are in workgroup memory; the lane that needs a scale adds them up in order.
var<workgroup> square_sums: array<f32, SUBGROUPS * X_ROWS>;

fn load_scales(token: u32, group: Group, lanes: Lanes) {
  for (var c = 0u; c < X_ROWS; c++) {
    let sum = subgroupAdd(lane_squares(existing(token + c), lanes.index, WG));
    if (lanes.lane == 0u) { square_sums[lanes.subgroup * X_ROWS + c] = sum; }
  }
}

fn sync_scales() { workgroupBarrier(); }

fn scale(x_row: u32, group: Group, lanes: Lanes) -> f32 {
  var sum = 0.0;
  for (var s = 0u; s < subgroup_count(group); s++) { sum += square_sums[s * X_ROWS + x_row]; }
  return norm_scale(sum);
}
