// A quad's values before the scale, lifted, and what undoes the lift.
fn lifted_quad(unit: Unit, quad: u32) -> vec4<f32> { return lifted_bytes(quad_bytes(unit, quad)) - byte_lift_of(32.0); }
fn down(quad: u32) -> vec4<f32> { return BYTE_DOWN; }
