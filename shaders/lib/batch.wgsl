// What one step works on; written by the host before the step is submitted.
struct Batch {
  rows: u32,           // rows of this step: tokens of a prefill chunk, or decoding slots
  first: u32,          // first row of the residual stream that the head looks at
  slot: u32,           // prefill: the slot whose state is carried on
  read_version: u32,   // prefill: the version of that state to start from
  write_version: u32,  // prefill: the version to leave behind
  entry: u32,          // first entry of the row table that select writes
  advance: u32,        // 1: select moves position and version on by one (decode)
}
