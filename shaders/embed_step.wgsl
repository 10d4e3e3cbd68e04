// x[row] = E[id of the row], made ready for the first norm: multiplied with its weights, and its squares summed up. A shard of
// the table writes only the rows whose id it holds.
@group(0) @binding(2) var<storage, read> norm: array<f32>;           // [hidden]
@group(0) @binding(3) var<storage, read_write> x: array<f32>;        // [rows, hidden]
@group(0) @binding(4) var<storage, read_write> normed: array<f32>;   // [rows, hidden], in the order of what reads it
@group(0) @binding(5) var<storage, read_write> squares: array<f32>;  // [rows], each filled up to a vec4

@compute @workgroup_size(WG)
fn embed_step(lanes: Lanes) {
  prepare_weights(lanes.index, WG);
  let row = lanes.group.x;
  let id = rows[row].id - params.first;  // wraps past the shard's rows for an id below it
  var sum = 0.0;
  for (var unit = lanes.index; unit < params.units && id < params.rows; unit += WG) {
    var values = unpack_unit(load_unit(id, unit, params.units));
    for (var q = 0u; q < QUADS; q++) {
      for (var i = 0u; i < 4u; i++) {
        let column = (unit * QUADS + q) * 4u + i;
        if (column < params.dim) {
          let at = row * params.x_stride + column;
          x[at] = values[q][i];
          normed[row * params.x_stride + placed(column, params.order_shift, params.order_units)] = values[q][i] * norm[column];
          sum += values[q][i] * values[q][i];
        }
      }
    }
  }
  let total = workgroup_sum(sum, lanes);
  if (lanes.index == 0u && id < params.rows) { squares[4u * row] = total; }
}
