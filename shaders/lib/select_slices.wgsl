// A choice in stages, a workgroup for each slice of a row's ids: what the stages leave for each other.
struct Params {
  vocab: u32,
  stride: u32,     // floats from one version of a slot's logits to the next
  versions: u32,   // versions of a slot's logits
  mass_bits: u32,  // bits of a word of mass
  slices: u32,     // of a row, WG * LANE_IDS ids each; at most WG
  work: u32,       // words of a row in `work`
  tally: u32,      // which tally a dispatch makes
}
// A row's `work`: keys [vocab], then of each slice its largest key and the id [2], the amount drawn from [2] and the
// tokens at the k-th key [1], then LISTED tokens above the k-th key, as key and id.
fn key_at(row: u32) -> u32 { return row * params.work; }
fn best_at(row: u32, slice: u32) -> u32 { return key_at(row) + params.vocab + 2u * slice; }
fn weight_at(row: u32, slice: u32) -> u32 { return best_at(row, params.slices + slice); }
fn ties_at(row: u32, slice: u32) -> u32 { return best_at(row, 2u * params.slices) + slice; }
fn listed_at(row: u32, i: u32) -> u32 { return ties_at(row, params.slices) + 2u * i; }

// A row's `notes`.
const BEST: u32 = 0u;    // the largest key; zero between choices
const COUNT: u32 = 1u;   // tokens listed; zero between choices
const KTH: u32 = 2u;     // the k-th key, 0 without top-k
const KEPT: u32 = 3u;    // the lowest key that stays
const OPEN: u32 = 4u;    // 3 words for each tally: what it was made with
fn note_at(row: u32, which: u32) -> u32 { return row * NOTES + which; }

// Tallies of tokens by 11 + 11 + 10 bits of their keys, those of top-k and those of top-p. Each is made of what falls into
// the one value that the tally before has found. They take turns in two buffers, as one is read while the next is made.
const RANK: u32 = 0u;
const RANK_LAST: u32 = 2u;
const MASS: u32 = 3u;
const MASS_LAST: u32 = 5u;
fn shift_of(tally: u32) -> u32 { return select(select(0u, 10u, tally % 3u == 1u), 21u, tally % 3u == 0u); }
// Where a row's tally begins; high words of masses come before low ones.
fn tally_at(row: u32, tally: u32) -> u32 { return row * TALLIES + tally / 2u * (2u * VALUES); }

// Few enough are left by top-k that one workgroup takes the rest of the rules.
fn lists(rules: Sampling) -> bool { return cuts_by_rank(rules) && rules.top_k <= LISTED; }
