// The rows of a chunk are one sequence: tokens of a slot, in order.
struct Sequence { picture: u32, direction: u32 }

fn sequence_rows() -> u32 { return batch.rows; }
fn direction_of(group: u32, groups: u32) -> u32 { return 0u; }
fn channels_of(group: u32, groups: u32) -> u32 { return group; }
fn token_of(row: u32) -> u32 { return row; }
fn picture_of(row: u32) -> u32 { return 0u; }
fn part_of(group: u32, parts: u32) -> u32 { return group; }
fn picture_of_part(group: u32, parts: u32) -> u32 { return 0u; }

fn shared_row(s: Sequence, t: u32) -> u32 { return t; }
fn own_row(s: Sequence, t: u32) -> u32 { return t; }
fn weights_row(s: Sequence, rows: u32) -> u32 { return 0u; }
fn sequence_number(s: Sequence) -> u32 { return 0u; }
