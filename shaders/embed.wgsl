// x[row] = E[id of the row]. A shard of the table writes only the rows whose id it holds.
@group(0) @binding(2) var<storage, read_write> x: array<f32>;        // [rows, hidden]

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn embed(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  prepare_weights(lane, WG);
  let row = group.x;
  let id = rows[row].id - params.first;  // an id below the shard wraps to a value past its rows
  if (id >= params.rows) { return; }
  for (var unit = lane; unit < params.units; unit += WG) {
    var values = unpack_unit(load_unit(id, unit, params.units));
    for (var q = 0u; q < QUADS; q++) {
      for (var i = 0u; i < 4u; i++) {
        let column = (unit * QUADS + q) * 4u + i;
        if (column < params.dim) { x[row * params.x_stride + column] = values[q][i]; }
      }
    }
  }
}
