// What a product reads: the RMSNorm of x. Its scale is the same for all of a row and is multiplied in after the sum.
@group(1) @binding(1) var<storage, read> norm: array<vec4<f32>>;  // [k], padded as x

const NORMED: bool = true;

fn norm_weight(at: u32) -> vec4<f32> { return norm[at]; }
