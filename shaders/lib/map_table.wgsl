// The map of codes as a table in workgroup memory: its 16 words lie in as many banks, so that lanes never wait for each other.
var<workgroup> map_table: array<f32, 16>;

fn mapped(codes: vec4<u32>) -> vec4<f32> {
  return vec4<f32>(map_table[codes.x], map_table[codes.y], map_table[codes.z], map_table[codes.w]);
}

// To be called by all lanes of a workgroup before the first weight is unpacked.
fn prepare_weights(lane: u32, lanes: u32) {
  for (var code = lane; code < 16u; code += lanes) { map_table[code] = MAP[code]; }
  workgroupBarrier();
}
