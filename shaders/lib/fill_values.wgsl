// Synthetic values: integers from -128 to 127 times a power of two, which every plain format holds exactly. Values past the
// columns are zero.
fn made_up(row: u32, word: u32) -> u32 {
  let column = word * WORD_VALUES;
  return pack(vec2<f32>(value(row, column), value(row, column + 1u)));
}

fn value(row: u32, column: u32) -> f32 {
  if (column >= params.columns) { return 0.0; }
  let bits = hash(row * params.columns + column + hash(params.seed));
  return (f32(bits >> 24u) - 128.0) * params.scale;
}
