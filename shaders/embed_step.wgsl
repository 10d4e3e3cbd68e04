// x[row] = E[id of the row], and the input of the first norm: x times the norm's weights, and the sum of its squares. A shard of
// the table writes only the rows whose id it holds.
@group(0) @binding(2) var<storage, read> norm: array<f32>;           // [hidden]
@group(0) @binding(3) var<storage, read_write> x: array<f32>;        // [rows, hidden]
// Binding 4 is the input of the first product.
@group(0) @binding(5) var<storage, read_write> squares: array<f32>;  // [rows], each padded to a vec4

@compute @workgroup_size(WG)
fn embed_step(group: Group, lanes: Lanes) {
  prepare_weights(lanes.index, WG);
  let row = group.id.x;
  let id = rows[row].id - params.first;  // an id below the shard wraps to a value past its rows
  var sum = 0.0;
  for (var first = lanes.index * GROUP_UNITS; first < params.units && id < params.rows; first += WG * GROUP_UNITS) {
    for (var unit = first; unit < first + GROUP_UNITS; unit++) {
      // Past the end of the row the last unit is read again and not used.
      var values = unpack_unit(load_unit(id, min(unit, params.units - 1u), params.units));
      for (var q = 0u; q < QUADS; q++) {
        for (var i = 0u; i < 4u; i++) {
          let column = (unit * QUADS + q) * 4u + i;
          let there = column < params.dim;
          let value = select(0.0, values[q][i], there);
          if (there) { x[row * params.x_stride + column] = value; }
          put(row, column, value * norm[min(column, params.dim - 1u)], lanes);
          sum += value * value;
        }
      }
    }
    finish_group(row, first, lanes);
  }
  let total = workgroup_sum(sum, group, lanes);
  if (lanes.index == 0u && id < params.rows) { squares[4u * row] = total; }
}
