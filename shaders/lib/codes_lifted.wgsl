// Undoes the power of two of lifted values on x, which all rows of a team share; or on the values, if several rows of x share
// them. It is exact either way.
fn dot_quad(unit: Unit, quad: u32, v: vec4<f32>) -> f32 { return dot(lifted_quad(unit, quad), down(quad) * v); }

fn weight_quad(unit: Unit, quad: u32) -> vec4<f32> { return lifted_quad(unit, quad) * down(quad); }
