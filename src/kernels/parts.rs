//! WGSL parts that several families are linked from.

use crate::gpu::{ShaderFile, ShaderPart, wgsl};

pub(super) const MATH: ShaderPart = ShaderPart::File(wgsl!("lib/math.wgsl"));
pub(super) const BATCH: ShaderPart = ShaderPart::File(wgsl!("lib/batch.wgsl"));
pub(super) const ROW_ENTRY: ShaderPart = ShaderPart::File(wgsl!("lib/row_entry.wgsl"));
pub(super) const PLACED: ShaderPart = ShaderPart::File(wgsl!("lib/placed.wgsl"));
pub(super) const TEAM: ShaderPart =
    ShaderPart::Subgroups { with: wgsl!("lib/team_subgroup.wgsl"), without: wgsl!("lib/team_shared.wgsl") };

/// A product's input.
pub(super) const X: ShaderPart =
    ShaderPart::Longs { with: wgsl!("lib/x_longs.wgsl"), without: wgsl!("lib/x_words.wgsl") };

pub(super) const fn file(source: ShaderFile) -> ShaderPart {
    ShaderPart::File(source)
}
