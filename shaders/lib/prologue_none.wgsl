// What a product reads: x as it is.
fn take_scales(token: u32, lanes: Lanes) {}

fn scale(column: u32) -> f32 { return 1.0; }
