// Epilogue of in_proj in a decode step: rows below D go through the causal convolution and SiLU, which read one version of the
// slot's state and write the next; the other rows are the gate, after SiLU.
struct Mixer {
  inner: u32,     // D
  versions: u32,  // versions of a slot's state
  gate_first: u32,  // offset of the gate in a row of y
}
@group(0) @binding(4) var<uniform> mixer: Mixer;
@group(0) @binding(5) var<storage, read> rows: array<RowEntry>;           // [tokens]
@group(0) @binding(6) var<storage, read> taps: array<f32>;           // [K + 1, D]: the K taps, oldest first, then the bias
@group(0) @binding(7) var<storage, read_write> state: array<f32>;    // [slot][version][K - 1][D], oldest first

var<private> entry_ahead: RowEntry;
var<private> taps_ahead: array<f32, K + 1u>;
var<private> old_ahead: array<f32, K - 1u>;

// Offset of a version of a row's convolution state.
fn state_at(version: u32, row: u32) -> u32 {
  return (entry_ahead.slot * mixer.versions + version % mixer.versions) * (K - 1u) * mixer.inner + row;
}

// Loads all operands but the sum.
fn preload(token: u32, row: u32) {
  if (row >= mixer.inner) { return; }
  entry_ahead = rows[token];
  let old_at = state_at(entry_ahead.version, row);
  for (var k = 0u; k < K - 1u; k++) { old_ahead[k] = state[old_at + k * mixer.inner]; }
  for (var k = 0u; k <= K; k++) { taps_ahead[k] = taps[k * mixer.inner + row]; }
}

fn finish(token: u32, row: u32, sum: f32) -> f32 {
  if (row >= mixer.inner) { return silu(sum); }
  let new_at = state_at(entry_ahead.version + 1u, row);
  var total = taps_ahead[K] + taps_ahead[K - 1u] * sum;
  for (var k = 0u; k < K - 1u; k++) {
    total += taps_ahead[k] * old_ahead[k];
    if (k > 0u) { state[new_at + (k - 1u) * mixer.inner] = old_ahead[k]; }
  }
  state[new_at + (K - 2u) * mixer.inner] = sum;
  return silu(total);
}

const SQUARES: bool = false;

fn put_squares(token: u32, part: u32, sum: f32) {}

// [tokens, x | gate]: x in the order of its consumer, the gate after x's padding.
fn y_at(token: u32, row: u32) -> u32 {
  let line = token * params.y_stride;
  if (row < mixer.inner) { return line + placed(row, params.order_shift, params.order_units); }
  return line + mixer.gate_first + row - mixer.inner;
}
