// One function of each value, as kernels compute it.
@group(0) @binding(0) var<storage, read> x: array<f32>;        // [values]
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // [values]

override WG: u32 = 64u;

fn value_of(v: f32) -> f32 {
  switch FUNCTION {
    case 0u: { return exp(v); }
    case 1u: { return exp2(v); }
    case 2u: { return log(v); }
    case 3u: { return inverseSqrt(v); }
    case 4u: { return 1.0 / v; }
    case 5u: { return softplus(v); }
    case 6u: { return silu(v); }
    default: { return gelu(v); }
  }
}

@compute @workgroup_size(WG)
fn functions(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < arrayLength(&y)) { y[id.x] = value_of(x[id.x]); }
}
