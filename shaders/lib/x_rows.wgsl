// A workgroup takes X_ROWS rows of x, which reuse one load of W; MAX_X_ROWS is the most of any variant.
// Most subgroups that a workgroup of LANES lanes may have.
const SUBGROUPS: u32 = (LANES + SMALLEST_SUBGROUP - 1u) / SMALLEST_SUBGROUP;

// Rows past the last token read the last token again; their results are dropped.
fn existing(token: u32) -> u32 {
  if (X_ROWS == 1u) { return token; }
  return min(token, batch.rows - 1u);
}
