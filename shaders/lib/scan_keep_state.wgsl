@group(0) @binding(9) var<storage, read_write> state: array<f32>;    // [slot][version][N][D]

fn keep_h(n: u32, d: u32, value: f32) { state[state_index(batch.write_version, n, d)] = value; }
