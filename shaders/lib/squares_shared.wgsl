// Sums of the squares of SQUARE_ROWS adjacent rows, at most four, over adjacent lanes, through workgroup memory in the order of
// squares_subgroup.wgsl. All lanes of the workgroup call it.
var<workgroup> row_squares: array<f32, WG>;

fn sum_of_rows(square: f32, lanes: Lanes) -> f32 {
  row_squares[lanes.index] = square;
  workgroupBarrier();
  let first = lanes.index - lanes.index % SQUARE_ROWS;
  var sum = row_squares[first];
  if (SQUARE_ROWS > 1u) { sum += row_squares[first + 1u]; }
  if (SQUARE_ROWS > 2u) { sum += row_squares[first + 2u] + row_squares[first + 3u]; }
  workgroupBarrier();
  return sum;
}
