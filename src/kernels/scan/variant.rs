//! Variants of the scan of a chunk: lanes per channel, tiles of tokens, segments.

use super::{RECURRENCE, RECURRENCE4, SUM_SHARED, SUM_SHUFFLE, TILE};
use crate::gpu::{Caps, KernelDef, ShaderPart};
use crate::kernels::sizes::size;

/// Lanes that keep the widest GPU busy: two subgroups of 32 for each of the 528 schedulers of an H100. wgpu does not report an
/// adapter's width; more lanes do not slow a narrow one down.
const WIDE: usize = 32768;

/// Most segments that [`segments_for`] returns.
pub const MOST_SEGMENTS: usize = 8;

/// Least tokens of a segment: fewer do not pay for the carry pass.
const LEAST_TOKENS: usize = 32;

/// How lanes share the states of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanVariant {
    /// One independent lane per channel: no barrier. For CPUs.
    Direct,
    /// 1, 4 or 16 lanes per channel, and tiles of tokens in workgroup memory. For GPUs.
    Tiled(u32, Sum),
}

/// How the lanes of a channel sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// Through workgroup memory.
    Shared,
    /// By shuffles, in the same order; every subgroup holds all lanes of a channel.
    Shuffle,
}

impl std::fmt::Display for ScanVariant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl ScanVariant {
    /// The variant for an adapter and a shape.
    ///
    /// A GPU hides the latency from token to token behind other lanes, so four lanes per channel; 16 only if there are so few
    /// channels that four would leave the widest GPUs half empty: each lane then has one state, but there is more to sum.
    pub fn of(caps: &Caps, channels: usize, states: usize) -> Self {
        match (channels, states) {
            _ if caps.cpu => ScanVariant::Direct,
            (_, ..=4) => ScanVariant::tiled(caps, 1),
            (channels, _) if channels * 4 * 2 >= WIDE => ScanVariant::tiled(caps, 4),
            _ => ScanVariant::tiled(caps, 16),
        }
    }

    /// The tiled variant, with shuffles if the adapter can.
    fn tiled(caps: &Caps, lanes: u32) -> Self {
        let shuffle = lanes > 1 && caps.subgroups && caps.subgroup_min >= lanes;
        ScanVariant::Tiled(lanes, if shuffle { Sum::Shuffle } else { Sum::Shared })
    }

    /// All variants that the adapter can run.
    pub fn all(caps: &Caps) -> Vec<Self> {
        let mut variants = vec![ScanVariant::Direct];
        for lanes in [1, 4, 16] {
            variants.push(ScanVariant::Tiled(lanes, Sum::Shared));
            let best = ScanVariant::tiled(caps, lanes);
            variants.extend((best != ScanVariant::Tiled(lanes, Sum::Shared)).then_some(best));
        }
        variants
    }

    /// This variant with sums through workgroup memory.
    pub(super) fn shared(self) -> Self {
        match self {
            ScanVariant::Tiled(lanes, _) => ScanVariant::Tiled(lanes, Sum::Shared),
            ScanVariant::Direct => ScanVariant::Direct,
        }
    }

    /// Name for cases and labels.
    pub fn name(self) -> &'static str {
        match self {
            ScanVariant::Direct => "scan",
            ScanVariant::Tiled(1, _) => "scan_1_lane",
            ScanVariant::Tiled(4, Sum::Shared) => "scan_4_lanes",
            ScanVariant::Tiled(4, Sum::Shuffle) => "scan_4_lanes_shuffled",
            ScanVariant::Tiled(_, Sum::Shared) => "scan_16_lanes",
            ScanVariant::Tiled(_, Sum::Shuffle) => "scan_16_lanes_shuffled",
        }
    }

    /// Lanes of a channel.
    fn lanes(self) -> u32 {
        match self {
            ScanVariant::Direct => 1,
            ScanVariant::Tiled(lanes, _) => lanes,
        }
    }

    /// Lanes of a workgroup.
    fn group(self) -> u32 {
        if self.lanes() == 1 { 64 } else { 128 }
    }

    /// Channels of a workgroup.
    pub(super) fn channels(self) -> u32 {
        self.group() / self.lanes()
    }

    /// Tokens of a tile: as many as fit into 16 KiB of workgroup memory at 64 states, and into the registers of one lane per
    /// channel.
    fn tile(self, states: usize) -> u32 {
        if self.lanes() > 1 && states <= 16 { 16 } else { 8 }
    }

    /// Adds this variant's parts and constants to a kernel.
    pub(super) fn def(self, mut def: KernelDef, direct: ShaderPart, tiled: ShaderPart, states: usize) -> KernelDef {
        let mut consts = vec![("N", size(states)), ("WG", self.group())];
        match self {
            ScanVariant::Direct => def.parts.extend([RECURRENCE, direct]),
            ScanVariant::Tiled(lanes, sum) => {
                consts.extend([("LANES", lanes), ("TILE", self.tile(states))]);
                // Up to 4 lanes per channel take four states at a time; with 16 lanes too few states remain for that.
                let recurrence = if lanes > 4 { RECURRENCE } else { RECURRENCE4 };
                let sum = match sum {
                    Sum::Shared => SUM_SHARED,
                    Sum::Shuffle => SUM_SHUFFLE,
                };
                def.parts.extend([recurrence, TILE, sum, tiled]);
            }
        }
        def.consts(&consts)
    }
}

/// Segments of a full chunk for an adapter and a shape: one, unless even 16 lanes per channel leave most of a wide GPU idle.
/// Several segments double the work, so fewer than four do not pay.
pub fn segments_for(caps: &Caps, channels: usize, states: usize, chunk: usize) -> usize {
    let lanes = ScanVariant::of(caps, channels, states).lanes() as usize;
    let fit = (WIDE / (channels * lanes)).min(MOST_SEGMENTS).min(chunk / LEAST_TOKENS);
    if caps.cpu || fit < 4 { 1 } else { fit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_segments_follow_adapter_and_shape() {
        let cpu = Caps::portable();
        let gpu = Caps { cpu: false, ..Caps::portable() };
        let wide = Caps { subgroups: true, subgroup_min: 32, ..gpu.clone() };
        let narrow = Caps { subgroups: true, subgroup_min: 8, ..gpu.clone() };
        for (caps, channels, variant, segments) in [
            (&cpu, 8192, ScanVariant::Direct, 1),
            (&cpu, 384, ScanVariant::Direct, 1),
            (&gpu, 8192, ScanVariant::Tiled(4, Sum::Shared), 1),
            (&wide, 8192, ScanVariant::Tiled(4, Sum::Shuffle), 1),
            (&narrow, 8192, ScanVariant::Tiled(4, Sum::Shuffle), 1),
            (&wide, 1536, ScanVariant::Tiled(16, Sum::Shuffle), 1),
            (&narrow, 1536, ScanVariant::Tiled(16, Sum::Shared), 1),
            (&wide, 384, ScanVariant::Tiled(16, Sum::Shuffle), 5),
            (&wide, 64, ScanVariant::Tiled(16, Sum::Shuffle), 8),
        ] {
            assert_eq!(ScanVariant::of(caps, channels, 16), variant, "{channels} channels");
            assert_eq!(segments_for(caps, channels, 16, 512), segments, "{channels} channels");
        }
        assert_eq!(segments_for(&wide, 384, 16, 64), 1, "a short chunk");
        assert_eq!(ScanVariant::of(&wide, 8192, 2), ScanVariant::Tiled(1, Sum::Shared), "few states");
    }
}
