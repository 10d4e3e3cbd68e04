// Each team computes the scales of all rows of x itself: no barrier.
var<private> scales: array<f32, MAX_X_ROWS>;

fn load_scales(token: u32, group: Group, lanes: Lanes) {
  for (var c = 0u; c < X_ROWS; c++) {
    let sum = lane_squares(existing(token + c), team_lane(lanes), team_size(group));
    scales[c] = norm_scale(direct_sum_of_one(sum, lanes));
  }
}

fn sync_scales() {}

fn scale(x_row: u32, group: Group, lanes: Lanes) -> f32 { return scales[x_row]; }
