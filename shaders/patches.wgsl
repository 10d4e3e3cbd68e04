// Cuts pictures into rows for the product that embeds patches: a row has the values of one patch, channel by channel, and the
// class token's row zeros.
struct Params {
  width: u32,      // of a picture, in pixels
  height: u32,
  side: u32,       // of a patch
  step: u32,       // pixels from one patch to the next
  across: u32,     // patches in a row of a picture
  class_at: u32,   // row of the class token among those of a picture
  columns: u32,    // channels * patch * patch
  stride: u32,     // floats from one row of y to the next
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> pixels: array<f32>;         // [picture, channel, height, width]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;        // [rows, columns]

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn patches(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let column = group.x * WG + lane;
  if (column >= params.columns) { return; }
  let row = group.y;
  let t = row % batch.tokens;
  var value = 0.0;
  if (t != params.class_at) {
    let number = t - select(0u, 1u, t > params.class_at);
    let area = params.side * params.side;
    let channels = params.columns / area;
    let plane = row / batch.tokens * channels + column / area;
    let down = number / params.across * params.step + column % area / params.side;
    let right = number % params.across * params.step + column % params.side;
    value = pixels[(plane * params.height + down) * params.width + right];
  }
  y[row * params.stride + column] = value;
}
