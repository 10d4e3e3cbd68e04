// Made-up codes of a format with scales: any bits will do. All scales are the same.
fn made_up(row: u32, word: u32) -> u32 {
  if (word < params.codes) { return hash(row * params.words + word + hash(params.seed)); }
  if (word < params.scales) { return params.pattern[word % 4u]; }
  return params.tops[word % 4u];
}
