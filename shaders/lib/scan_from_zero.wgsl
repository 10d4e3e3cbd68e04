// A scan that begins with h = 0 and keeps none.
fn h_before(n: u32, d: u32) -> f32 { return 0.0; }
fn keep_h(n: u32, d: u32, value: f32) {}
