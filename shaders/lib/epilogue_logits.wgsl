// Epilogue of the head in a decode step: logits go to the slot's next version, as its state does.
@group(0) @binding(4) var<storage, read> rows: array<RowEntry>;  // [tokens]

fn finish(token: u32, row: u32, sum: f32) -> f32 { return sum; }

const SQUARES: bool = false;

fn put_squares(token: u32, part: u32, sum: f32) {}

// y is [slot][version][out].
fn y_at(token: u32, row: u32) -> u32 {
  let entry = rows[token];
  return (entry.slot * VERSIONS + (entry.version + 1u) % VERSIONS) * params.y_stride + row;
}

fn preload(token: u32, row: u32) {}
