//! `peregrine devices`: the adapters; features, limits, kernels and formats of the selected one; the environment variables.

use super::model::DeviceArgs;
use clap::Args;
use peregrine::format::WeightFormat;
use peregrine::gpu::{Gpu, SWITCHES, VARIABLES, adapters};
use peregrine::kernels::linear::{self, Math};
use peregrine::kernels::variants::{Variants, falcon_mamba_7b};
use peregrine::selftest::{features, limits, usable};
use serde_json::{Value, json};
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
        let gpu = self.device.open(false)?;
        let variants = pollster::block_on(Variants::tried(&gpu, Math::Exact, &falcon_mamba_7b(WeightFormat::Bf16)))?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{:#}", document(&gpu, &variants))?;
        } else {
            print(&mut out, &gpu, &variants)?;
        }
        Ok(())
    }
}

fn document(gpu: &Gpu, variants: &Variants) -> Value {
    let (info, caps) = (gpu.info(), gpu.caps());
    let listed = adapters().into_iter().enumerate().map(|(index, a)| {
        json!({
            "index": index, "name": a.name, "backend": a.backend, "kind": a.kind, "driver": a.driver, "unfit": a.unfit,
        })
    });
    let fitting = usable(gpu)
        .into_iter()
        .map(|usable| json!({ "weights": usable.format.name(), "bytes": usable.needs, "fits": usable.fits }));
    let chosen = json!({
        "name": info.name, "backend": info.backend, "kind": info.kind, "driver": info.driver,
        "ids": info.ids.map(|id| format!("{id:#06x}")), "features": features(caps), "limits": limits(caps),
        "binding_limit": caps.binding_limit, "kernels": variants.to_string(),
        "shaders": caps.shaders.as_ref().map(|folder| folder.dir()), "falcon_mamba_7b": fitting.collect::<Vec<_>>(),
    });
    json!({
        "peregrine": env!("CARGO_PKG_VERSION"), "commit": env!("PEREGRINE_COMMIT"), "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH, "devices": listed.collect::<Vec<_>>(), "chosen": chosen,
    })
}

fn print(out: &mut impl Write, gpu: &Gpu, variants: &Variants) -> anyhow::Result<()> {
    for (index, adapter) in adapters().iter().enumerate() {
        let unfit = adapter.unfit.as_ref().map_or_else(String::new, |why| format!("; cannot be used: {why}"));
        writeln!(out, "{index}: {adapter}{unfit}")?;
    }
    let info = gpu.info();
    let [vendor, device] = info.ids;
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("PEREGRINE_COMMIT"));
    writeln!(out, "\nselected: {info}")?;
    writeln!(out, "  ids {vendor:#06x} {device:#06x}, {} {}", std::env::consts::OS, std::env::consts::ARCH)?;
    writeln!(out, "  peregrine {version} {commit}")?;
    for line in gpu.caps().described() {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "\nFalcon Mamba 7B, one conversation")?;
    for usable in usable(gpu) {
        writeln!(out, "  {usable}")?;
    }
    writeln!(out, "\nkernels chosen for it, bf16")?;
    for (what, variant) in variants.named() {
        writeln!(out, "  {what:<26} {variant}")?;
    }
    for math in [Math::Exact, Math::Fast] {
        if let Some(trial) = pollster::block_on(linear::trial(gpu, math))? {
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
