// Where a value of a row lies that a product reads: in order, or where `shift` is 3, by quads for units of 32 values: quad q of
// unit u is quad q * units + u, so that lanes with a unit each read side by side.
fn placed(column: u32, shift: u32, units: u32) -> u32 {
  let quad = column / 4u;
  return 4u * ((quad & ((1u << shift) - 1u)) * units + (quad >> shift)) + column % 4u;
}
