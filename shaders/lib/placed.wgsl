// Position of a value in a row that a product reads: `column`, or if `shift` is 3, by quads for units of 32 values: quad q of
// unit u is quad q * units + u, so that lanes that take one unit each read adjacent memory.
fn placed(column: u32, shift: u32, units: u32) -> u32 {
  let quad = column / 4u;
  return 4u * ((quad & ((1u << shift) - 1u)) * units + (quad >> shift)) + column % 4u;
}
