// Packs values as f32.
const WORD_VALUES: u32 = 1u;
fn pack(values: vec2<f32>) -> u32 { return bitcast<u32>(values.x); }
