// What in_proj's product becomes in a decode step: rows below D go through the causal convolution and SiLU, reading one
// version of the slot's state and writing the next; the others are the gate, after SiLU.
struct Mixer {
  inner: u32,     // D
  versions: u32,  // versions of a slot's state
  gate_first: u32,  // place of a row where the gate begins
}
@group(0) @binding(4) var<uniform> mixer: Mixer;
@group(0) @binding(5) var<storage, read> rows: array<Row>;           // [tokens]
@group(0) @binding(6) var<storage, read> taps: array<f32>;           // [K + 1, D]: the K taps, oldest first, then the bias
@group(0) @binding(7) var<storage, read_write> state: array<f32>;    // [slot][version][K - 1][D], oldest first

fn finish(token: u32, row: u32, sum: f32) -> f32 {
  if (row >= mixer.inner) { return silu(sum); }
  let entry = rows[token];
  let size = (K - 1u) * mixer.inner;
  let old_at = (entry.slot * mixer.versions + entry.version % mixer.versions) * size + row;
  let new_at = (entry.slot * mixer.versions + (entry.version + 1u) % mixer.versions) * size + row;
  var total = taps[K * mixer.inner + row] + taps[(K - 1u) * mixer.inner + row] * sum;
  for (var k = 0u; k < K - 1u; k++) {
    let old = state[old_at + k * mixer.inner];
    total += taps[k * mixer.inner + row] * old;
    if (k > 0u) { state[new_at + (k - 1u) * mixer.inner] = old; }
  }
  state[new_at + (K - 2u) * mixer.inner] = sum;
  return silu(total);
}

const SQUARES: bool = false;

fn put_squares(token: u32, part: u32, sum: f32) {}

// [tokens, x | gate]: x in the order of what reads it, and the gate after x's filling.
fn y_at(token: u32, row: u32) -> u32 {
  let line = token * params.y_stride;
  if (row < mixer.inner) { return line + placed(row, params.order_shift, params.order_units); }
  return line + mixer.gate_first + row - mixer.inner;
}
