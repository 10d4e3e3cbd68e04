// A quad's unscaled values, lifted, and the factor that undoes the lift.
fn lifted_quad(unit: Unit, quad: u32) -> vec4<f32> { return lifted_bytes(quad_bytes(unit, quad)) - byte_lift_of(32.0); }
fn down(quad: u32) -> vec4<f32> { return BYTE_DOWN; }
