// log(1 + exp(v)). With e = exp(-|v|), log(1 + e) = 2 atanh(e / (2 + e)) as a series: below v = -17, the range of small time
// steps, log() of a value next to 1 has no digits left. Relative error 3e-7 beside that of exp().
fn softplus(v: f32) -> f32 {
  let e = exp(-abs(v));
  let s = e / (2.0 + e);
  let q = s * s;
  let tail = 1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0 + q * (1.0 / 15.0 + q / 17.0)));
  return max(v, 0.0) + 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * tail))));
}

// v * sigmoid(v), through exp(-|v|) which cannot overflow.
fn silu(v: f32) -> f32 {
  let e = exp(-abs(v));
  return v * select(e, 1.0, v >= 0.0) / (1.0 + e);
}

// v * Phi(v), with the normal distribution Phi(v) = (1 + erf(v / sqrt(2))) / 2. WGSL has no erf: erfc(u) = t P(t) exp(-u^2) with
// t = 1 / (1 + 0.3275911 u), formula 7.1.26 of Abramowitz and Stegun. |error| < 1.5e-7 beside rounding.
fn gelu(v: f32) -> f32 {
  let u = abs(v) * 0.70710678;
  let t = 1.0 / (1.0 + 0.3275911 * u);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return max(v, 0.0) - 0.5 * abs(v) * p * exp(-u * u);
}
