// Totals of a team that is a whole workgroup: the sums of its subgroups are in workgroup memory; the lane that needs a total adds
// them up in order.
var<workgroup> partial_totals: array<Sums, SUBGROUPS * X_ROWS>;

fn sum_up(x_row: u32, sums: Sums, lanes: Lanes) {
  let sum = direct_sums(sums, lanes);
  if (lanes.lane == 0u) { partial_totals[lanes.subgroup * X_ROWS + x_row] = sum; }
}

// A workgroup makes all its rows at once, so the sums are written only once.
fn sync_totals(lanes: Lanes) { workgroupBarrier(); }

fn total_of(x_row: u32, row: u32, group: Group, lanes: Lanes) -> f32 {
  var total = 0.0;
  for (var s = 0u; s < subgroup_count(group); s++) { total += sum_in(partial_totals[s * X_ROWS + x_row], row); }
  return total;
}
