//! `matmul`: products of a weight matrix with the tokens of a prefill chunk; arithmetic is the bottleneck.

use super::math::Math;
use crate::format::WeightFormat;
use crate::gpu::{Binding, Caps, Coop, Count, KernelDef, ShaderPart, wgsl};
use crate::kernels::parts::file;

/// Lanes of a workgroup of [`MatmulVariant::Direct`], and tokens that it takes.
const DIRECT_LANES: u32 = 32;
const DIRECT_TOKENS: u32 = 8;
/// Lanes of a subgroup of [`MatmulVariant::Shared`], which is its workgroup, and tokens that it takes: two per lane.
const SHARED_LANES: u32 = 8;
const SHARED_TOKENS: u32 = 2 * SHARED_LANES;
/// Rows of y that a lane of either makes: the shaders write them out as vec4.
const LANE_ROWS: u32 = 4;
/// Lanes of a workgroup of [`MatmulVariant::Tiled`], in a square, and values of k that it takes at a time.
const TILED_LANES: u32 = 256;
const TILED_DEPTH: u32 = 16;
/// Tokens, and rows, per block of a tiled variant: four for each lane of a side.
const BLOCK_SIDE: u32 = 64;
/// Cooperative matrices of a [`Tile`]'s block over rows of y.
const BLOCK_ROW_MATRICES: u32 = 2;

/// With fewer rows than this, large tiles of cooperative matrices leave most of a large GPU idle.
const FEW_ROWS: usize = 2048;

/// With at least this many rows, tiles of 128 fill a large GPU.
const LARGE_ROWS: usize = 4096;

/// How the work is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatmulVariant {
    /// Each lane makes a block of y in registers and shares nothing, without barriers. For CPUs.
    Direct,
    /// The same by subgroups of 8 lanes, each of which loads a part of x for all: a CPU driver loads lane by lane, even if all
    /// lanes load the same address, so that loads dominate the time.
    Shared,
    /// A workgroup makes a tile of 64 `blocks` x 64 `blocks` through workgroup memory. For GPUs.
    Tiled {
        /// 1 or 2.
        blocks: u32,
    },
    /// Subgroups of a workgroup make a tile by cooperative matrices: the given one, or one chosen by matrix and tokens.
    Coop(Coop, Math, Option<Tile>),
}

/// The tile of y that a workgroup makes by cooperative matrices: blocks of tokens by rows, one per subgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Blocks over tokens.
    pub token_blocks: u32,
    /// Blocks over rows.
    pub row_blocks: u32,
    /// Matrices of a block over tokens, 2 or 4; it has `BLOCK_ROW_MATRICES` over rows.
    pub block: u32,
    /// Values of k per step.
    pub depth: u32,
}

impl Tile {
    /// 128 x 128 with matrices of 16: the fastest on an H200 with x split in two, for matrices with enough rows.
    pub const LARGE: Tile = Tile { token_blocks: 2, row_blocks: 4, block: 4, depth: 32 };
    /// For few tokens.
    pub const FLAT: Tile = Tile { token_blocks: 1, ..Self::LARGE };
    /// For few rows.
    pub const SMALL: Tile = Tile { row_blocks: 2, ..Self::FLAT };
    /// Fits the memory of every GPU.
    pub const LEAST: Tile = Tile { row_blocks: 1, ..Self::FLAT };
    /// For CPUs, whose drivers take minutes to compile larger ones.
    pub const CPU: Tile = Tile { token_blocks: 2, row_blocks: 2, block: 2, depth: 16 };

    /// Tiles for GPUs, the largest first.
    pub const GPU: [Tile; 5] =
        [Self::LARGE, Tile { row_blocks: 2, ..Self::LARGE }, Self::FLAT, Self::SMALL, Self::LEAST];

    fn subgroups(self) -> u32 {
        self.token_blocks * self.row_blocks
    }

    fn tokens(self, coop: Coop) -> u32 {
        self.block * coop.size * self.token_blocks
    }

    fn rows(self, coop: Coop) -> u32 {
        BLOCK_ROW_MATRICES * coop.size * self.row_blocks
    }

    /// Whether an adapter has the lanes and the workgroup memory for it: a line of values with 16 bytes of padding per token
    /// and row, high and low; one matrix of up to four subgroups; and the table of nf4 and fp4.
    fn fits(self, caps: &Caps, coop: Coop, splits: [bool; 2]) -> bool {
        let [x, w] = splits.map(|split| if split { 2 } else { 1 });
        let lines = x * self.tokens(coop) + w * self.rows(coop);
        let bytes = (2 * self.depth + 16) * lines + 16 + 4 * self.subgroups().min(4) * coop.size.pow(2) + 64;
        bytes <= caps.workgroup_bytes && coop.lanes * self.subgroups() <= caps.max_lanes
    }
}

/// Whether x and W are each split into a high and a low part.
fn splits(math: Math, format: WeightFormat) -> [bool; 2] {
    let exact = math == Math::Exact;
    // In other formats a scale times a code has more digits than f16.
    [exact, exact && !matches!(format, WeightFormat::F16 | WeightFormat::Bf16)]
}

/// Whether rows of W are scaled: in all formats but f16, whose range is that of the matrices.
pub(super) fn scales_rows(format: WeightFormat) -> bool {
    format != WeightFormat::F16
}

fn can_share(caps: &Caps) -> bool {
    caps.subgroups && [caps.subgroup_min, caps.subgroup_max] == [SHARED_LANES; 2]
}

impl MatmulVariant {
    /// The variant for an adapter, as far as its kind tells without a trial.
    pub fn of(caps: &Caps) -> Self {
        match caps {
            Caps { cpu: true, .. } if can_share(caps) => MatmulVariant::Shared,
            Caps { cpu: true, .. } => MatmulVariant::Direct,
            // Tiles of 128 need half the loads of tiles of 64 for the same work, and 64 sums in each lane's registers;
            // integrated GPUs have fewer registers, and are filled by smaller tiles.
            Caps { discrete: true, .. } => MatmulVariant::Tiled { blocks: 2 },
            _ => MatmulVariant::Tiled { blocks: 1 },
        }
    }

    /// All variants that the adapter can run.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut all =
            vec![MatmulVariant::Direct, MatmulVariant::Tiled { blocks: 1 }, MatmulVariant::Tiled { blocks: 2 }];
        if can_share(caps) {
            all.push(MatmulVariant::Shared);
        }
        let of_coop = |coop| [Math::Exact, Math::Fast].map(|math| MatmulVariant::Coop(coop, math, None));
        all.extend(caps.coop.into_iter().flat_map(of_coop));
        all
    }

    /// This variant with each tile that fits the adapter. A CPU's driver takes minutes to compile a GPU's tiles with matrices
    /// of 16.
    pub(super) fn tiles(self, caps: &Caps) -> Vec<Self> {
        match self {
            MatmulVariant::Coop(coop, math, None) => {
                let of_gpu = match (caps.cpu, coop.size) {
                    (true, 16) => &[][..],
                    (true, _) => &[Tile::LARGE],
                    (false, _) => &Tile::GPU,
                };
                let of_cpu = Some(Tile::CPU).filter(|_| caps.cpu);
                let fitting = of_gpu.iter().copied().filter(|tile| tile.fits(caps, coop, [math == Math::Exact; 2]));
                of_cpu.into_iter().chain(fitting).map(|tile| MatmulVariant::Coop(coop, math, Some(tile))).collect()
            }
            variant => vec![variant],
        }
    }

    /// This variant's kernels for a matrix of `rows` rows, each with the most tokens that it is for: few rows, and few tokens, take
    /// smaller tiles.
    pub(super) fn for_matrix(self, caps: &Caps, format: WeightFormat, rows: usize) -> Vec<(u32, Self)> {
        match self {
            MatmulVariant::Tiled { .. } if rows < LARGE_ROWS => vec![(u32::MAX, MatmulVariant::Tiled { blocks: 1 })],
            MatmulVariant::Coop(coop, math, None) => {
                let fitting = |tiles: &[Tile]| {
                    let mut tiles = tiles.iter().filter(|tile| tile.fits(caps, coop, splits(math, format)));
                    MatmulVariant::Coop(coop, math, Some(tiles.next().copied().unwrap_or(Tile::LEAST)))
                };
                if caps.cpu {
                    return vec![(u32::MAX, MatmulVariant::Coop(coop, math, Some(Tile::CPU)))];
                }
                if rows < FEW_ROWS {
                    return vec![(u32::MAX, fitting(&[Tile::SMALL]))];
                }
                let few = (Tile::FLAT.tokens(coop), fitting(&[Tile::FLAT, Tile::SMALL]));
                vec![few, (u32::MAX, fitting(&Tile::GPU))]
            }
            variant => vec![(u32::MAX, variant)],
        }
    }

    /// Whether it reads exponents of x and W, see [`super::tops`].
    pub(super) fn takes_tops(self) -> bool {
        matches!(self, MatmulVariant::Coop(..))
    }

    pub(super) fn def(
        self,
        format: WeightFormat,
        slices: u32,
        mut parts: Vec<ShaderPart>,
        bindings: Vec<Binding>,
    ) -> KernelDef {
        let slices = ("SLICES", slices);
        match self {
            MatmulVariant::Direct => {
                parts.push(file(wgsl!("matmul.wgsl")));
                let consts = [("TOKENS", DIRECT_TOKENS), ("LANE_ROWS", LANE_ROWS), slices];
                KernelDef::new("matmul", parts, bindings).consts(&consts).overrides(&[("WG", DIRECT_LANES)])
            }
            MatmulVariant::Shared => {
                parts.extend([wgsl!("lib/multiply_shared.wgsl"), wgsl!("matmul_shared.wgsl")].map(file));
                let consts = [("SUBGROUP", SHARED_LANES), ("TOKENS", SHARED_TOKENS), ("LANE_ROWS", LANE_ROWS), slices];
                KernelDef::new("matmul", parts, bindings).consts(&consts)
            }
            MatmulVariant::Tiled { blocks } => {
                parts.push(file(wgsl!("matmul_tiled.wgsl")));
                KernelDef::new("matmul", parts, bindings).consts(&[
                    ("BLOCKS", blocks),
                    ("BLOCK_SIDE", BLOCK_SIDE),
                    ("LANES", TILED_LANES),
                    ("DEPTH", TILED_DEPTH),
                    slices,
                ])
            }
            MatmulVariant::Coop(coop, math, tile) => {
                let tile = tile.unwrap_or(Tile::LEAST);
                let sizes = if coop.size == 16 { wgsl!("lib/coop_16.wgsl") } else { wgsl!("lib/coop_8.wgsl") };
                parts.extend([wgsl!("lib/exponents.wgsl"), wgsl!("matmul_coop.wgsl"), sizes].map(file));
                let [split_x, split_w] = splits(math, format).map(u32::from);
                KernelDef::new("matmul", parts, bindings).coop().consts(&[
                    ("WG", coop.lanes * tile.subgroups()),
                    ("SIZE", coop.size),
                    ("TOKENS", tile.tokens(coop)),
                    ("ROWS", tile.rows(coop)),
                    ("TOKEN_BLOCKS", tile.token_blocks),
                    ("ROW_BLOCKS", tile.row_blocks),
                    ("BLOCK", tile.block),
                    ("DEPTH", tile.depth),
                    ("SPLIT_X", split_x),
                    ("SPLIT_W", split_w),
                    ("SCALE_W", scales_rows(format).into()),
                    slices,
                ])
            }
        }
    }

    /// Tokens and rows of y that a workgroup makes.
    pub(super) fn tile(self) -> [u32; 2] {
        match self {
            MatmulVariant::Direct => [DIRECT_TOKENS, DIRECT_LANES * LANE_ROWS],
            MatmulVariant::Shared => [SHARED_TOKENS, SHARED_LANES * LANE_ROWS],
            MatmulVariant::Tiled { blocks } => [BLOCK_SIDE * blocks; 2],
            MatmulVariant::Coop(coop, _, of) => {
                let of = of.unwrap_or(Tile::LEAST);
                [of.tokens(coop), of.rows(coop)]
            }
        }
    }

    /// Values of k that it takes at a time, for weights with units of `unit` values.
    pub(super) fn depth(self, unit: usize) -> usize {
        match self {
            MatmulVariant::Direct | MatmulVariant::Shared => unit,
            MatmulVariant::Tiled { .. } => TILED_DEPTH as usize,
            MatmulVariant::Coop(_, _, of) => of.unwrap_or(Tile::LEAST).depth as usize,
        }
    }

    /// Workgroups for each slice of k of a matrix or shard of so many rows.
    pub(super) fn grid(self, rows: usize, slices: u32) -> [Count; 2] {
        let [of_tokens, of_rows] = self.tile();
        [Count::of(rows, of_rows), Count::Each { rows: of_tokens, groups: slices }]
    }
}

impl std::fmt::Display for MatmulVariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MatmulVariant::Direct => f.write_str("direct"),
            MatmulVariant::Shared => f.write_str("shared"),
            MatmulVariant::Tiled { blocks } => write!(f, "tiled {}", BLOCK_SIDE * blocks),
            MatmulVariant::Coop(coop, math, tile) => {
                write!(f, "coop {} {math}", coop.size)?;
                tile.map_or(Ok(()), |tile| write!(f, " {}x{}", tile.tokens(*coop), tile.rows(*coop)))
            }
        }
    }
}
