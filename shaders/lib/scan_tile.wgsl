// A tile of tokens in workgroup memory, for a scan with LANES lanes per channel. Lane i holds states of channel i / LANES; it
// loads, and later writes, values of channel i % CHANNELS, so that adjacent lanes access adjacent memory. The next tile is
// loaded into registers while a tile is processed. If N does not fill the lanes, A, B, C and h are 0 and add 0.
const CHANNELS: u32 = WG / LANES;                                    // per workgroup
const SHARE: u32 = (N + LANES * WIDTH - 1u) / (LANES * WIDTH);       // States per lane
const ROW: u32 = SHARE * LANES;                                      // States in a row of B or C
const OWN: u32 = (TILE + LANES - 1u) / LANES;                        // tokens of a tile that a lane loads for its channel
const OWN_BC: u32 = (TILE * 2u * ROW + WG - 1u) / WG;                // States of B and C that a lane loads

var<workgroup> tile_dt_x: array<vec2<f32>, TILE * CHANNELS>;         // [TILE, CHANNELS]
var<workgroup> tile_bc: array<States, TILE * 2u * ROW>;              // [TILE, B | C]
var<private> next_dt_x: array<vec2<f32>, OWN>;
var<private> next_bc: array<States, OWN_BC>;

// The token of a tile that a lane loads as its k-th.
fn own_token(k: u32, index: u32) -> u32 { return index / CHANNELS + k * LANES; }

// The state that is number w of a lane's j-th States.
fn state_at(j: u32, w: u32, index: u32) -> u32 { return (j * LANES + index % LANES) * WIDTH + w; }

// Loads this lane's part of the tile that begins at token `first` of a sequence, of channel `d`; zeros from token `end` on.
fn load_tile(s: Sequence, first: u32, end: u32, d: u32, index: u32) {
  for (var k = 0u; k < OWN; k++) {
    let t = own_token(k, index);
    next_dt_x[k] = vec2<f32>();
    if (t < TILE && first + t < end && d < params.inner) {
      let at = own_row(s, first + t) * params.stride + d;
      next_dt_x[k] = vec2<f32>(dt[at], x[at]);
    }
  }
  for (var k = 0u; k < OWN_BC; k++) {
    let i = index + k * WG;
    let t = i / (2u * ROW);
    let half = (i % (2u * ROW)) / ROW;  // 0: B, 1: C
    var values = array<f32, WIDTH>();
    for (var w = 0u; w < WIDTH; w++) {
      let n = (i % ROW) * WIDTH + w;
      values[w] = 0.0;
      if (n < N && t < TILE && first + t < end) {
        values[w] = dbc[own_row(s, first + t) * params.dbc_stride + params.b_first + half * N + n];
      }
    }
    next_bc[k] = states_of(values);
  }
}

// Stores the loaded values in workgroup memory.
fn keep_tile(index: u32) {
  for (var k = 0u; k < OWN; k++) {
    if (own_token(k, index) < TILE) { tile_dt_x[index + k * WG] = next_dt_x[k]; }
  }
  for (var k = 0u; k < OWN_BC; k++) {
    if (index + k * WG < TILE * 2u * ROW) { tile_bc[index + k * WG] = next_bc[k]; }
  }
}
