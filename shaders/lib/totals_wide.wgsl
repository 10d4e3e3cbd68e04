// Where the sums of a team end up that is a whole workgroup: those of its subgroups in workgroup memory, added up in order by
// the lane that wants a total.
var<workgroup> partial_totals: array<Sums, SUBGROUPS * COLUMNS>;

fn sum_up(column: u32, sums: Sums, lanes: Lanes) {
  let sum = direct_sums(sums, lanes);
  if (lanes.lane == 0u) { partial_totals[lanes.subgroup * COLUMNS + column] = sum; }
}

// A workgroup makes its rows at once: nobody writes there again.
fn settle(lanes: Lanes) { workgroupBarrier(); }

fn total_of(column: u32, row: u32, lanes: Lanes) -> f32 {
  var total = 0.0;
  for (var s = 0u; s < subgroup_count(lanes); s++) { total += sum_in(partial_totals[s * COLUMNS + column], row); }
  return total;
}
