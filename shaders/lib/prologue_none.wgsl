// What a product reads: x as it is.
fn norm_scale(token: u32, lanes: Lanes) -> f32 { return 1.0; }
