// Totals of a team that sums through workgroup memory: every lane gets them. One loop takes all rows of x, because a CPU driver
// takes long to compile each barrier.
var<private> totals: array<Sums, MAX_X_ROWS>;

fn sum_up(x_row: u32, sums: Sums, lanes: Lanes) { totals[x_row] = sums; }

fn sync_totals(lanes: Lanes) {
  for (var c = 0u; c < X_ROWS; c++) { totals[c] = direct_sums(totals[c], lanes); }
}

fn total_of(x_row: u32, row: u32, group: Group, lanes: Lanes) -> f32 { return sum_in(totals[x_row], row); }
