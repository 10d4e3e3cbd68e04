// Powers of two that scale values into the range of f16.
fn exponent(v: vec4<f32>) -> u32 {
  let m = max(max(abs(v.x), abs(v.y)), max(abs(v.z), abs(v.w)));
  return bitcast<u32>(m) >> 23u;
}

fn power_of_two(e: i32) -> f32 { return bitcast<f32>(u32(clamp(e, -126, 127) + 127) << 23u); }

// v * 2^e in two steps, since 2^e alone may be out of range.
fn scaled(v: vec4<f32>, e: i32) -> vec4<f32> { return v * power_of_two(e / 2) * power_of_two(e - e / 2); }
