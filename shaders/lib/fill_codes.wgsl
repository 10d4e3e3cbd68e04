// Synthetic codes of a format with scales: random bits. All scales are equal.
fn made_up(row: u32, word: u32) -> u32 {
  if (word < params.codes) { return hash(row * params.words + word + hash(params.seed)); }
  if (word < params.scales) { return params.pattern[word % 4u]; }
  return params.tops[word % 4u];
}
