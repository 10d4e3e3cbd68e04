// Integer products with codes of 8 bits and one scale per unit.
fn code_word(unit: Unit, quad: u32) -> u32 { return select(unit.codes.low, unit.codes.high, quad >= 4u)[quad % 4u]; }

fn weighed_codes(unit: Unit, low: i32, high: i32, x_sum: f32) -> f32 { return unit.scale * f32(low + high); }
