//! `peregrine devices`: the adapters, the capabilities and kernels of the default one, and the environment variables.

use super::model::DeviceArgs;
use clap::Args;
use peregrine::format::WeightFormat;
use peregrine::gpu::{SWITCHES, VARIABLES, adapters};
use peregrine::kernels::linear::{self, Math, Matrix};
use peregrine::kernels::variants::{Sizes, Variants};
use serde_json::json;
use std::io::Write;

#[derive(Args)]
pub struct Devices {
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> anyhow::Result<()> {
        let listed = adapters();
        let gpu = self.device.open(false)?;
        let (info, caps) = (gpu.info(), gpu.caps());
        let variants = pollster::block_on(Variants::tried(&gpu, Math::Exact, &sizes_of_7b(WeightFormat::Bf16)))?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let devices: Vec<_> = (0..)
                .zip(&listed)
                .map(|(index, a): (usize, _)| {
                    json!({
                        "index": index, "name": a.name, "backend": a.backend, "kind": a.kind, "driver": a.driver,
                        "unfit": a.unfit,
                    })
                })
                .collect();
            let chosen = json!({
                "name": info.name, "backend": info.backend, "subgroups": caps.subgroups,
                "subgroup_min": caps.subgroup_min, "subgroup_max": caps.subgroup_max, "f16": caps.f16,
                "timestamps": caps.timestamps, "coop": caps.coop.map(|coop| coop.size),
                "kernels": variants.to_string(),
                "shaders": caps.shaders.as_ref().map(|folder| folder.dir()),
                "binding_limit": caps.binding_limit, "buffer_limit": caps.buffer_limit,
            });
            writeln!(out, "{:#}", json!({ "devices": devices, "chosen": chosen }))?;
            return Ok(());
        }
        for (index, adapter) in listed.iter().enumerate() {
            let unfit = adapter.unfit.as_ref().map_or_else(String::new, |why| format!("; cannot be used: {why}"));
            writeln!(out, "{index}: {adapter}{unfit}")?;
        }
        let megabytes = |bytes: u64| bytes >> 20;
        let yes = |is: bool| if is { "yes" } else { "no" };
        writeln!(out, "\nselected: {}", info.name)?;
        writeln!(
            out,
            "  subgroups      {}, {} to {} lanes",
            yes(caps.subgroups),
            caps.subgroup_min,
            caps.subgroup_max
        )?;
        writeln!(out, "  f16            {}", yes(caps.f16))?;
        writeln!(out, "  timestamps     {}", yes(caps.timestamps))?;
        let coop = caps.coop.map_or("no".to_owned(), |coop| format!("{0}x{0}, f16 to f32", coop.size));
        writeln!(out, "  coop matrices  {coop}")?;
        writeln!(out, "  binding limit  {} MiB", megabytes(caps.binding_limit))?;
        writeln!(out, "  buffer limit   {} MiB", megabytes(caps.buffer_limit))?;
        writeln!(out, "\nkernels chosen for Falcon Mamba 7B, bf16")?;
        for (what, variant) in variants.named() {
            writeln!(out, "  {what:<26} {variant}")?;
        }
        for math in [Math::Exact, Math::Fast] {
            if let Some(trial) = pollster::block_on(linear::trial(&gpu, math))? {
                writeln!(out, "  trial, {math}: {trial}")?;
            }
        }
        writeln!(out, "\nenvironment variables")?;
        for (name, meaning) in SWITCHES.iter().chain(VARIABLES) {
            let value = std::env::var(name).map_or_else(|_| String::new(), |value| format!(" (now {value})"));
            writeln!(out, "  {name:<24} {meaning}{value}")?;
        }
        Ok(())
    }
}

/// The sizes that choose the kernels of the 7B, with weights in `format`.
fn sizes_of_7b(format: WeightFormat) -> Sizes {
    let matrix = |rows, columns| Matrix { rows, columns, format };
    let matrices = vec![
        ("in_proj", matrix(16384, 4096)),
        ("x_proj", matrix(288, 8192)),
        ("out_proj", matrix(4096, 8192)),
        ("head", matrix(65024, 4096)),
    ];
    Sizes { matrices, by_groups: true, channels: 8192, states: 16 }
}
