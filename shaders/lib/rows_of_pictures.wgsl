// The rows of a batch are pictures of `batch.tokens` rows each. A sequence is a picture in one of two directions: the second runs
// from its last row to its first. Both read the same rows of some activations and have rows of their own in others, and weights.
struct Sequence { picture: u32, direction: u32 }

fn sequence_rows() -> u32 { return batch.tokens; }

// Workgroups over channels: `groups` for each direction.
fn direction_of(group: u32, groups: u32) -> u32 { return group / groups; }
fn channels_of(group: u32, groups: u32) -> u32 { return group % groups; }

// Rows of the batch, in the order of a sequence.
fn token_of(row: u32) -> u32 { return row % batch.tokens; }
fn picture_of(row: u32) -> u32 { return row / batch.tokens; }

// Workgroups over parts of a sequence: `parts` for each picture.
fn part_of(group: u32, parts: u32) -> u32 { return group % parts; }
fn picture_of_part(group: u32, parts: u32) -> u32 { return group / parts; }

// The row of token t of a sequence, in activations that both directions share.
fn shared_row(s: Sequence, t: u32) -> u32 {
  return s.picture * batch.tokens + select(t, batch.tokens - 1u - t, s.direction == 1u);
}

// The same in activations of one direction after the other.
fn own_row(s: Sequence, t: u32) -> u32 { return s.direction * batch.direction_rows + shared_row(s, t); }

// The first row of a direction's weights, of which it has `rows`.
fn weights_row(s: Sequence, rows: u32) -> u32 { return s.direction * rows; }

fn sequence_number(s: Sequence) -> u32 { return s.picture * 2u + s.direction; }
