// Each team takes the scales of some columns, for all teams.
var<workgroup> scales: array<f32, MOST_COLUMNS>;

fn take_scales(token: u32, lanes: Lanes) {
  for (var c = team_index(lanes); c < COLUMNS; c += team_count(lanes)) {
    let scale = norm_scale(existing(token + c), lanes);
    if (team_lane(lanes) == 0u) { scales[c] = scale; }
  }
  workgroupBarrier();
}

fn scale(column: u32) -> f32 { return scales[column]; }
