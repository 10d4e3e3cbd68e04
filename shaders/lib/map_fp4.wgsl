// The 4-bit floats of bitsandbytes: a sign, then one of eight sizes.
const MAP = array<f32, 16>(
  0.0, 0.0052083334885537624, 0.6666666865348816, 1.0, 0.3333333432674408, 0.5, 0.1666666716337204, 0.25,
  -0.0, -0.0052083334885537624, -0.6666666865348816, -1.0, -0.3333333432674408, -0.5, -0.1666666716337204, -0.25,
);
const SIGN_IN_CODE: bool = true;  // whether the upper half of the map is the lower half negated
