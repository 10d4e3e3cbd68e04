// All lanes of a workgroup take the scales together: a GPU's teams would read the same squares once each. The sums of the
// subgroups lie in workgroup memory; the lane that wants a scale adds them up in order.
var<workgroup> square_sums: array<f32, SUBGROUPS * COLUMNS>;

fn take_scales(token: u32, lanes: Lanes) {
  for (var c = 0u; c < COLUMNS; c++) {
    let sum = subgroupAdd(some_squares(existing(token + c), lanes.index, WG));
    if (lanes.lane == 0u) { square_sums[lanes.subgroup * COLUMNS + c] = sum; }
  }
}

fn settle_scales() { workgroupBarrier(); }

fn scale(column: u32, lanes: Lanes) -> f32 {
  var sum = 0.0;
  for (var s = 0u; s < subgroup_count(lanes); s++) { sum += square_sums[s * COLUMNS + column]; }
  return norm_scale(sum);
}
