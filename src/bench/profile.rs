//! Times of the kernels of a step or a chunk: each dispatch alone, and back to back with others of its kind.

use crate::gpu::DispatchTime;
use crate::model::{Profile, purpose};
use std::fmt::Write;

/// Time of all dispatches of one kind.
#[derive(Debug, Clone)]
pub struct KernelTime {
    /// Its purpose, with the kernel's name.
    pub name: String,
    /// Number of dispatches.
    pub dispatches: usize,
    /// Total seconds with each dispatch in a separate pass.
    pub seconds: f64,
    /// Total seconds back to back in one pass.
    pub seconds_in_a_row: f64,
    /// Total multiply-adds.
    pub macs: u64,
    /// Total bytes that must be moved.
    pub bytes: u64,
}

/// Sums up by purpose; the slowest comes first.
pub(super) fn by_kernel(profile: &Profile) -> Vec<KernelTime> {
    let mut kernels: Vec<KernelTime> = Vec::new();
    for (DispatchTime { label, kernel, seconds, macs, bytes }, in_a_row) in profile.alone.iter().zip(&profile.in_a_row)
    {
        let name = purpose(label);
        let name = if name == *kernel { name.to_owned() } else { format!("{name} ({kernel})") };
        let at = kernels.iter().position(|kernel| kernel.name == name).unwrap_or_else(|| {
            kernels.push(KernelTime { name, dispatches: 0, seconds: 0.0, seconds_in_a_row: 0.0, macs: 0, bytes: 0 });
            kernels.len() - 1
        });
        let kernel = &mut kernels[at];
        kernel.dispatches += 1;
        kernel.seconds += seconds;
        kernel.seconds_in_a_row += in_a_row.seconds;
        kernel.macs += macs;
        kernel.bytes += bytes;
    }
    kernels.sort_by(|a, b| b.seconds_in_a_row.total_cmp(&a.seconds_in_a_row));
    kernels
}

/// A Markdown table of the kernels of `what`.
pub(super) fn markdown(what: &str, kernels: &[KernelTime]) -> String {
    let sum = |of: fn(&KernelTime) -> f64| kernels.iter().map(of).sum::<f64>();
    let (alone, in_a_row) = (sum(|kernel| kernel.seconds), sum(|kernel| kernel.seconds_in_a_row));
    let mut text = format!(
        "\n{what}, {:.3} ms on the device with each dispatch alone, {:.3} ms in rows of their like:\n\n\
         | kernel | dispatches | µs alone | µs in a row | GB/s | GFLOP/s | % |\n|---|---:|---:|---:|---:|---:|---:|\n",
        alone * 1e3,
        in_a_row * 1e3
    );
    for KernelTime { name, dispatches, seconds, seconds_in_a_row, macs, bytes } in kernels {
        let each = |seconds: f64| seconds * 1e6 / *dispatches as f64;
        let _ = writeln!(
            text,
            "| {name} | {dispatches} | {:.1} | {:.1} | {:.2} | {:.2} | {:.1} |",
            each(*seconds),
            each(*seconds_in_a_row),
            *bytes as f64 / seconds_in_a_row / 1e9,
            2.0 * *macs as f64 / seconds_in_a_row / 1e9,
            100.0 * seconds_in_a_row / in_a_row
        );
    }
    text
}
