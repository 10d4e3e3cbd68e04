// A convolution that continues a slot's state.
@group(0) @binding(5) var<storage, read_write> state: array<f32>;    // [slot][version][K - 1][D], oldest first

fn state_at(version: u32, column: u32, d: u32) -> u32 {
  return ((batch.slot * params.versions + version) * (K - 1u) + column) * params.inner + d;
}

fn input_before(column: u32, d: u32) -> f32 { return state[state_at(batch.read_version, column, d)]; }
fn keep_input(column: u32, d: u32, value: f32) { state[state_at(batch.write_version, column, d)] = value; }
