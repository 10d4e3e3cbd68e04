// Selection in stages, one workgroup per slice of a row's ids: the buffers that stages share.
struct Params {
  vocab: u32,
  stride: u32,     // floats from one version of a slot's logits to the next
  versions: u32,   // versions of a slot's logits
  mass_bits: u32,  // bits of a word of mass
  slices: u32,     // of a row, WG * LANE_IDS ids each; at most WG
  work: u32,       // words of a row in `work`
  tally: u32,      // the tally that a dispatch makes
}
// A row's `work`: keys [vocab]; then per slice its largest key with the id [2], its amount in the draw [2] and the number of tokens
// at the k-th key [1]; then LISTED tokens above the k-th key, as key and id.
fn key_at(row: u32) -> u32 { return row * params.work; }
fn best_at(row: u32, slice: u32) -> u32 { return key_at(row) + params.vocab + 2u * slice; }
fn weight_at(row: u32, slice: u32) -> u32 { return best_at(row, params.slices + slice); }
fn ties_at(row: u32, slice: u32) -> u32 { return best_at(row, 2u * params.slices) + slice; }
fn listed_at(row: u32, i: u32) -> u32 { return ties_at(row, params.slices) + 2u * i; }

// A row's `notes`.
const BEST: u32 = 0u;    // the largest key; zero between selections
const COUNT: u32 = 1u;   // tokens listed; zero between selections
const KTH: u32 = 2u;     // the k-th key, 0 without top-k
const KEPT: u32 = 3u;    // the lowest key that stays
const OPEN: u32 = 4u;    // 3 words per tally: the Open that it was made with
fn note_at(row: u32, which: u32) -> u32 { return row * NOTES + which; }

// Tallies (histograms) of tokens by 11 + 11 + 10 bits of their keys, three for top-k and three for top-p. Each covers the one value
// that the tally before has found. They alternate between two buffers, as one is read while the next is made.
const RANK: u32 = 0u;
const RANK_LAST: u32 = 2u;
const MASS: u32 = 3u;
const MASS_LAST: u32 = 5u;
fn shift_of(tally: u32) -> u32 { return select(select(0u, 10u, tally % 3u == 1u), 21u, tally % 3u == 0u); }
// Offset of a row's tally; high words of masses come before low words.
fn tally_at(row: u32, tally: u32) -> u32 { return row * TALLIES + tally / 2u * (2u * VALUES); }

// Whether top-k leaves so few tokens that one workgroup applies the other parameters.
fn lists(rules: SamplingParams) -> bool { return cuts_by_rank(rules) && rules.top_k <= LISTED; }
