// What a product reads: x as it is.
fn take_scales(token: u32, lanes: Lanes) {}

fn settle_scales() {}

fn scale(column: u32, lanes: Lanes) -> f32 { return 1.0; }
