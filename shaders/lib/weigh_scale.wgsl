// Adds half a unit's products to a sum: the unit has one scale.
fn weighed(sum: f32, unit: Unit, half: u32, products: f32, x: f32) -> f32 { return sum + unit.scale * products; }
