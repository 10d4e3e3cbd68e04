// A scan that continues a slot's state. The h of the last row becomes the state's next version.
fn state_index(version: u32, n: u32, d: u32) -> u32 {
  return ((batch.slot * params.versions + version) * N + n) * params.inner + d;
}

fn h_before(n: u32, d: u32) -> f32 { return state[state_index(batch.read_version, n, d)]; }
