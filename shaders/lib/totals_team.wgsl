// Where the sums of a team end up: every lane has them.
var<private> totals: array<Sums, MOST_COLUMNS>;

fn sum_up(column: u32, sums: Sums, lanes: Lanes) { totals[column] = direct_sums(sums, lanes); }

fn settle(lanes: Lanes) {}

fn total_of(column: u32, row: u32, lanes: Lanes) -> f32 {
  if (COLUMNS == 1u) { return sum_in(totals[0], row); }
  return sum_in(totals[column], row);
}
