// Sums of the squares of SQUARE_ROWS rows side by side, at most four, for lanes side by side: here through workgroup memory, in the order of
// the shuffles. All lanes of the workgroup must call it.
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
