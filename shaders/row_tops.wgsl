// The exponent of each row's largest weight, with f32's bias, by which cooperative matrices scale W. A workgroup takes ROWS
// rows with ROW_LANES lanes each.
struct Params {
  units: u32,  // units in a row of W
  rows: u32,   // rows of this shard
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> tops: array<u32>;  // [rows]

const ROW_LANES: u32 = WG / ROWS;
var<workgroup> row_top: array<atomic<u32>, ROWS>;

@compute @workgroup_size(WG)
fn tops_of_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  prepare_weights(lane, WG);
  if (lane < ROWS) { atomicStore(&row_top[lane], 0u); }
  workgroupBarrier();
  let row = group.x * ROWS + lane / ROW_LANES;
  var own = 0u;
  for (var unit = lane % ROW_LANES; unit < params.units && row < params.rows; unit += ROW_LANES) {
    let bits = load_unit(row, unit, params.units);
    for (var q = 0u; q < QUADS; q++) { own = max(own, exponent(unpack_quad(bits, q))); }
  }
  atomicMax(&row_top[lane / ROW_LANES], own);
  workgroupBarrier();
  if (lane < ROWS && group.x * ROWS + lane < params.rows) { tops[group.x * ROWS + lane] = atomicLoad(&row_top[lane]); }
}
