// A quad's codes, lifted, and the factor that undoes the lift.
fn lifted_quad(unit: Unit, quad: u32) -> vec4<f32> { return lifted_codes(unit.codes, quad) - lift_of(0.0, quad); }
fn down(quad: u32) -> vec4<f32> { return lift_down(quad); }
