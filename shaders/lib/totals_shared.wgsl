// Where the sums of a team end up that adds up through workgroup memory: every lane has them. The columns go through one loop, as a
// CPU driver takes long to compile each barrier.
var<private> totals: array<Sums, MOST_COLUMNS>;

fn sum_up(column: u32, sums: Sums, lanes: Lanes) { totals[column] = sums; }

fn settle(lanes: Lanes) {
  for (var c = 0u; c < COLUMNS; c++) { totals[c] = direct_sums(totals[c], lanes); }
}

fn total_of(column: u32, row: u32, lanes: Lanes) -> f32 { return sum_in(totals[column], row); }
