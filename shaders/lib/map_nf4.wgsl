// The normal-float map of 4 bits (Dettmers et al., 2023, appendix E): quantiles of a normal distribution.
// Values with all digits of their f32.
const MAP = array<f32, 16>(
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
  -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
);
const SIGN_IN_CODE: bool = false;  // whether the upper half of the map is the lower half negated
