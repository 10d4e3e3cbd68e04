// Adds the second direction's values to the first direction's: y = (forward + backward) * scale.
struct Params {
  width: u32,
  stride: u32,   // floats from one row to the next
  scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;        // [direction][rows, width]

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = group.x * WG + lane;
  if (column >= params.width) { return; }
  let at = group.y * params.stride + column;
  y[at] = (y[at] + y[at + batch.direction_rows * params.stride]) * params.scale;
}
