// The rows of one step; the host writes it before the step is submitted.
struct Batch {
  rows: u32,           // rows of this step: tokens of a prefill chunk, or decoding slots
  first: u32,          // first row of the residual stream that the head looks at
  slot: u32,           // prefill: the slot whose state continues
  read_version: u32,   // prefill: the version of its state to read
  write_version: u32,  // prefill: the version to write
  entry: u32,          // first entry of the row table that select updates
  advance: u32,        // 1: select adds one to position and version (decode)
  tokens: u32,         // pictures: rows of a picture
  direction_rows: u32, // pictures: rows from the values of one direction to those of the other
}
