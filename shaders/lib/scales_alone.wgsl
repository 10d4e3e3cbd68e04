// Each team takes the scales of all columns for itself: no barrier.
var<private> scales: array<f32, MOST_COLUMNS>;

fn take_scales(token: u32, lanes: Lanes) {
  for (var c = 0u; c < COLUMNS; c++) { scales[c] = norm_scale(existing(token + c), lanes); }
}

fn scale(column: u32) -> f32 { return scales[column]; }
