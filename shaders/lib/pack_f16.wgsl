// Packs values as f16.
const WORD_VALUES: u32 = 2u;
fn pack(values: vec2<f32>) -> u32 { return pack2x16float(values); }
