// Totals of a team: every lane gets them.
var<private> totals: array<Sums, MAX_X_ROWS>;

fn sum_up(x_row: u32, sums: Sums, lanes: Lanes) { totals[x_row] = direct_sums(sums, lanes); }

fn sync_totals(lanes: Lanes) {}

fn total_of(x_row: u32, row: u32, group: Group, lanes: Lanes) -> f32 {
  if (X_ROWS == 1u) { return sum_in(totals[0], row); }
  return sum_in(totals[x_row], row);
}
