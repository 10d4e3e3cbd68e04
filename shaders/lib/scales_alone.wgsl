// Each team takes the scales of all columns for itself: no barrier.
var<private> scales: array<f32, MOST_COLUMNS>;

fn take_scales(token: u32, lanes: Lanes) {
  for (var c = 0u; c < COLUMNS; c++) {
    let sum = some_squares(existing(token + c), team_lane(lanes), team_size(lanes));
    scales[c] = norm_scale(direct_sum_of_one(sum, lanes));
  }
}

fn settle_scales() {}

fn scale(column: u32, lanes: Lanes) -> f32 { return scales[column]; }
