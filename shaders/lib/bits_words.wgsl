// A unit of weights, 16 bytes, as four words.
@group(1) @binding(0) var<storage, read> weight: array<vec4<u32>>;  // [rows, units a row]

fn load_bits(at: u32) -> vec4<u32> { return weight[at]; }
