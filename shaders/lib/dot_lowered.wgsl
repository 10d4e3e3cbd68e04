// Products of lifted codes. The power of two that is left goes to x, which all rows of a team share, or where several columns
// share the codes, to these. It is exact either way.
fn dot_lowered(codes: vec4<f32>, down: vec4<f32>, v: vec4<f32>) -> f32 {
  if (COLUMNS > 1u) { return dot(codes * down, v); }
  return dot(codes, down * v);
}
