// Prologue: x as it is.
fn load_scales(token: u32, group: Group, lanes: Lanes) {}

fn sync_scales() {}

fn scale(x_row: u32, group: Group, lanes: Lanes) -> f32 { return 1.0; }
