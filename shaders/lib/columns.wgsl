// The rows of a decode step that share what is loaded of W: COLUMNS of them.
const MOST_COLUMNS: u32 = 8u;

// Subgroups of a workgroup of LANES lanes, at most.
const SUBGROUPS: u32 = (LANES + SMALLEST_SUBGROUP - 1u) / SMALLEST_SUBGROUP;

// Columns after the last token read it once more, and are not kept.
fn existing(token: u32) -> u32 {
  if (COLUMNS == 1u) { return token; }
  return min(token, batch.rows - 1u);
}
