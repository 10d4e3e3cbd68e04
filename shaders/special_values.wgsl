// What becomes of infinities, NaN, denormals and values beyond f16. Kernels rely on the first words; the others are only reported.
@group(0) @binding(0) var<storage, read> x: array<f32>;              // infinity, -infinity, NaN, 1e-40, 1, 3e38, 70000
@group(0) @binding(1) var<storage, read> halves: array<u32>;         // two f16 each: the largest and 1, a denormal, infinity
@group(0) @binding(2) var<storage, read_write> relied: array<u32>;   // bits
@group(0) @binding(3) var<storage, read_write> reported: array<u32>; // bits

@compute @workgroup_size(1)
fn special_values() {
  let infinite = x[0];
  let banned = x[1];
  let tiny = x[3];
  let one = x[4];
  let huge = x[5];
  // A banned token has the logit -infinity: it loses, and has no weight.
  relied[0] = select(0u, 1u, banned < -huge);
  relied[1] = bitcast<u32>(max(banned, one));
  relied[2] = bitcast<u32>(exp(banned));
  relied[3] = bitcast<u32>(exp2(banned));
  // A state that has decayed, and a gate far from zero.
  relied[4] = bitcast<u32>(exp2(-huge));
  relied[5] = bitcast<u32>(silu(-huge));
  relied[6] = bitcast<u32>(softplus(huge));
  // Weights in f16 and bf16 are unpacked from words.
  relied[7] = bitcast<u32>(unpack2x16float(halves[0]).x);
  relied[8] = bitcast<u32>(bitcast<f32>(bitcast<u32>(x[0]) & 0xffff0000u));

  reported[0] = select(0u, 1u, x[2] != x[2]);
  reported[1] = bitcast<u32>(max(x[2], one));
  reported[2] = bitcast<u32>(infinite - infinite);
  reported[3] = bitcast<u32>(tiny * one);
  reported[4] = bitcast<u32>(tiny);
  reported[5] = bitcast<u32>(huge * 10.0);
  reported[6] = pack2x16float(vec2<f32>(x[6], one));
  reported[7] = bitcast<u32>(unpack2x16float(halves[1]).x);
  reported[8] = bitcast<u32>(unpack2x16float(halves[2]).x);
}
