// The code map as a table in workgroup memory: its 16 words are in 16 banks, so that lanes never conflict.
var<workgroup> map_table: array<f32, 16>;

fn mapped(codes: vec4<u32>) -> vec4<f32> {
  return vec4<f32>(map_table[codes.x], map_table[codes.y], map_table[codes.z], map_table[codes.w]);
}

// All lanes of a workgroup call it before they unpack a weight.
fn prepare_weights(lane: u32, lanes: u32) {
  for (var code = lane; code < 16u; code += lanes) { map_table[code] = MAP[code]; }
  workgroupBarrier();
}
