// The rows of a decode step that share what is loaded of W: COLUMNS of them.
const MOST_COLUMNS: u32 = 8u;

// Columns after the last token read it once more, and are not kept.
fn existing(token: u32) -> u32 { return min(token, batch.rows - 1u); }
