//! `peregrine inspect`: what is in a checkpoint, and what memory it needs, before anything is loaded.

use super::model::ModelArgs;
use clap::Args;
use peregrine::model::{Family, MemoryPlan, ModelTensors};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    model: ModelArgs,
    /// Conversations to plan for
    #[arg(long, value_name = "N", default_value_t = 1)]
    slots: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<()> {
        let checkpoint = self.model.checkpoint()?;
        let (config, tensors) = (checkpoint.config(), checkpoint.tensors()?);
        let options = peregrine::model::ForwardOptions { slots: self.slots, ..self.model.options() };
        // Without a device the plan is that of the least that WebGPU promises.
        let gpu = self.model.device.open(false);
        let caps = gpu.as_ref().map_or_else(|_| peregrine::gpu::Caps::portable(), |gpu| gpu.caps().clone());
        let plan = MemoryPlan::of(config, &tensors, options, caps.span_limit());
        let parameters = config.parameters(tensors.head.is_none());
        let shards = plan.largest_matrix.div_ceil(caps.span_limit());
        let mut out = std::io::stdout().lock();
        if self.json {
            let types: BTreeMap<_, _> = types(&tensors).into_iter().collect();
            let device = gpu.as_ref().ok().map(|gpu| gpu.info().to_string());
            writeln!(
                out,
                "{:#}",
                json!({
                    "model": checkpoint.label(), "family": family(config.family), "parameters": parameters,
                    "layers": config.layers, "hidden": config.hidden, "inner": config.inner, "state": config.state,
                    "dt_rank": config.dt_rank, "conv_kernel": config.conv_kernel, "vocab": config.vocab,
                    "tied": tensors.head.is_none(), "eos": checkpoint.eos(), "chat_template": checkpoint.has_template(),
                    "checkpoint_bytes": tensors.bytes(), "types": types, "device": device,
                    "memory": {
                        "weights": plan.weights, "state_per_slot": plan.state_per_slot, "activations": plan.activations,
                        "total": plan.total(), "host_staging": plan.staging, "largest_matrix": plan.largest_matrix,
                        "most_shards": shards,
                    },
                })
            )?;
            return Ok(());
        }
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        writeln!(out, "model        {}", checkpoint.label())?;
        writeln!(
            out,
            "family       {}: {} layers, hidden {}, inner {}, state {}, dt rank {}, conv {}, {} tokens, head {}",
            family(config.family),
            config.layers,
            config.hidden,
            config.inner,
            config.state,
            config.dt_rank,
            config.conv_kernel,
            config.vocab,
            if tensors.head.is_none() { "tied" } else { "of its own" }
        )?;
        writeln!(out, "parameters   {parameters}")?;
        let types: Vec<String> =
            types(&tensors).into_iter().map(|(name, bytes)| format!("{name} {}", mb(bytes))).collect();
        writeln!(out, "checkpoint   {}: {}", mb(tensors.bytes()), types.join(", "))?;
        let chat = if checkpoint.has_template() { "chats, by its template" } else { "continues text, has no template" };
        writeln!(out, "text         {chat}; ends at ids {:?}", checkpoint.eos())?;
        writeln!(out, "memory       {} on the device:", mb(plan.total()))?;
        writeln!(out, "  weights      {}", mb(plan.weights))?;
        writeln!(out, "  state        {} a conversation, at any length", mb(plan.state_per_slot))?;
        writeln!(out, "  activations  {}, for chunks of {} tokens", mb(plan.activations), self.model.chunk)?;
        writeln!(out, "  staging      {} on the host, at most", mb(plan.staging))?;
        match gpu {
            Ok(gpu) => writeln!(out, "device       {}{}", gpu.info(), fits(shards, &plan))?,
            Err(error) => writeln!(out, "device       none: {error}")?,
        }
        Ok(())
    }
}

fn fits(shards: u64, plan: &MemoryPlan) -> String {
    let cut = if shards > 1 { format!("; its largest matrix is cut into {shards} shards") } else { String::new() };
    format!("{cut}; the interface does not tell how much memory is free, {:.1} MB must be", plan.total() as f64 / 1e6)
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Mamba => "Mamba",
        Family::FalconMamba { .. } => "Falcon Mamba",
    }
}

/// Bytes of each type of the matrices.
fn types(tensors: &ModelTensors<'_>) -> Vec<(&'static str, u64)> {
    let mut types: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in tensors.matrices() {
        *types.entry(tensor.held_as().name()).or_default() += tensor.bytes.len() as u64;
    }
    types.into_iter().collect()
}
