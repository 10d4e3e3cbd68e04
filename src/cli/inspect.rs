//! `peregrine inspect`: a checkpoint's config, tensor types and memory needs, without loading it.

use super::model::{ModelArgs, converted_types};
use super::vision;
use clap::Args;
use peregrine::model::{Bytes, Embeddings, MemoryPlan, ModelTensors, Room};
use peregrine::runtime::Checkpoint;
use peregrine::vision::VisionCheckpoint;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

#[derive(Args)]
pub struct Inspect {
    #[command(flatten)]
    model: ModelArgs,
    /// Conversations at a time to plan memory for
    #[arg(long, value_name = "N", default_value_t = 1)]
    slots: usize,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self) -> anyhow::Result<()> {
        let path = self.model.locate()?;
        if let Some(path) = path.as_ref().filter(|path| VisionCheckpoint::is_at(path)) {
            let gpu = self.model.device.open(false).ok();
            return vision::inspect(path, gpu.as_ref(), &self.model.options(), self.json);
        }
        let checkpoint = self.model.checkpoint.open(path.as_deref())?;
        let (config, tensors) = (checkpoint.config(), checkpoint.tensors()?);
        let options = self.model.options().slots(self.slots);
        options.check()?;
        // Without a device the plan uses WebGPU's guaranteed limits.
        let gpu = self.model.device.open(false);
        let caps = gpu.as_ref().map_or_else(|_| peregrine::gpu::Caps::portable(), |gpu| gpu.caps().clone());
        let settled = gpu.as_ref().map_or(options, |gpu| options.settled(gpu, config, &tensors));
        let plan = MemoryPlan::of(config, &tensors, settled, caps.span_limit());
        let each = MemoryPlan::of_each_format(config, &tensors, options, caps.span_limit());
        let room = gpu.as_ref().map_or_else(|_| options.memory.map(Room::Allowed), |gpu| Room::of(gpu, &options));
        let parameters = config.parameters(tensors.head.is_none());
        let shards = plan.largest_matrix.div_ceil(caps.span_limit());
        let mut out = std::io::stdout().lock();
        if self.json {
            let types: BTreeMap<_, _> = types(&tensors).into_iter().collect();
            let each = each.iter().map(|(format, plan)| {
                let fits = room.map(|room| room.holds(plan));
                json!({ "weights": format.name(), "weight_bytes": plan.weights, "total": plan.total(), "fits": fits })
            });
            let device = gpu.as_ref().ok().map(|gpu| gpu.info().to_string());
            let mut report = json!({
                "model": checkpoint.label(), "family": config.architecture.display_name(), "parameters": parameters,
                "layers": config.layers, "hidden": config.hidden, "vocab": config.vocab,
                "tied": tensors.head.is_none(), "eos": checkpoint.eos(), "chat_template": checkpoint.has_template(),
                "chat_template_problem": checkpoint.template_problem().map(|problem| problem.to_string()),
                "tokenizer_problem": checkpoint.tokenizer().err().map(|problem| problem.to_string()),
                "checkpoint_bytes": tensors.bytes(), "types": types, "device": device,
                "unused": {
                    "tensors": tensors.unused.iter().map(|tensor| json!({ "name": tensor.name, "why": tensor.why })).collect::<Vec<_>>(),
                    "keys": checkpoint.unused_keys().known, "unknown_keys": checkpoint.unused_keys().unknown,
                },
                "memory": {
                    "weights": plan.weights, "state_per_slot": plan.state_per_slot, "activations": plan.activations, "chunk": plan.chunk,
                    "total": plan.total(), "host_staging": plan.staging, "host_backup_per_slot": plan.backup_per_slot, "largest_matrix": plan.largest_matrix,
                    "most_shards": shards, "embeddings_on_host": plan.embeddings == Embeddings::Host, "room": room.map(Room::bytes), "fits": room.map(|room| room.holds(&plan)),
                    "formats": each.collect::<Vec<_>>(),
                },
            });
            for (name, size) in config.architecture.dimensions() {
                report[name] = size.into();
            }
            writeln!(out, "{report:#}")?;
            return Ok(());
        }
        writeln!(out, "model        {}", checkpoint.label())?;
        let dimensions = config.architecture.dimensions();
        let dimensions: Vec<String> =
            dimensions.map(|(name, size)| format!("{} {size}", name.replace('_', " "))).collect();
        writeln!(
            out,
            "family       {}: {} layers, hidden {}, {}, {} tokens, head {}",
            config.architecture.display_name(),
            config.layers,
            config.hidden,
            dimensions.join(", "),
            config.vocab,
            if tensors.head.is_none() { "tied" } else { "untied" }
        )?;
        writeln!(out, "parameters   {parameters}")?;
        let types: Vec<String> =
            types(&tensors).into_iter().map(|(name, bytes)| format!("{name} {}", Bytes(bytes))).collect();
        writeln!(out, "checkpoint   {}: {}", Bytes(tensors.bytes()), types.join(", "))?;
        let converted = converted_types(&tensors);
        if !converted.is_empty() {
            writeln!(out, "  types        {}", converted.join("; "))?;
        }
        for line in unused(&checkpoint, &tensors) {
            writeln!(out, "unused       {line}")?;
        }
        let text = match (checkpoint.tokenizer(), checkpoint.has_template()) {
            (Err(_), _) => "token ids only",
            (Ok(_), true) => "has a chat template",
            (Ok(_), false) => "has no chat template, continues text",
        };
        writeln!(out, "text         {text}; EOS ids {:?}", checkpoint.eos())?;
        if let Err(error) = checkpoint.tokenizer() {
            writeln!(out, "  tokenizer    unusable: {error}")?;
        }
        if let Some(problem) = checkpoint.template_problem() {
            writeln!(out, "  template     unusable: {problem}")?;
        }
        writeln!(out, "memory       {} on the device:", Bytes(plan.total()))?;
        writeln!(out, "  weights      {}", Bytes(plan.weights))?;
        if plan.embeddings == Embeddings::Host {
            let bytes = Bytes(tensors.embedding.bytes.len() as u64);
            writeln!(out, "  embeddings   {bytes} on the host: each step waits for the previous step's token")?;
        } else if options.embeddings == Embeddings::Host {
            writeln!(out, "  embeddings   on the device, as the table is tied to the head")?;
        }
        writeln!(out, "  state        {} per conversation, at any length", Bytes(plan.state_per_slot))?;
        writeln!(out, "  activations  {}, for chunks of {} tokens", Bytes(plan.activations), plan.chunk)?;
        writeln!(out, "  staging      up to {} on the host", Bytes(plan.staging))?;
        writeln!(
            out,
            "  backup       up to {} on the host per conversation, for a lost device",
            Bytes(plan.backup_per_slot)
        )?;
        writeln!(out, "formats      total device memory by weight format:")?;
        for (format, other) in &each {
            let fits = room.map_or("", |room| if room.holds(other) { ", fits" } else { ", does not fit" });
            writeln!(out, "  --weights {:<8} {}{fits}", format.name(), Bytes(other.total()))?;
        }
        match gpu {
            Ok(gpu) => writeln!(out, "device       {}{}", gpu.info(), fits(shards, &plan, room))?,
            Err(error) => writeln!(out, "device       none: {error}")?,
        }
        Ok(())
    }
}

/// Tensors and keys of the files that have no effect.
fn unused(checkpoint: &Checkpoint, tensors: &ModelTensors<'_>) -> Vec<String> {
    let keys = checkpoint.unused_keys();
    let of_tensors = tensors.unused.iter().map(|tensor| format!("tensor {}: {}", tensor.name, tensor.why));
    let list = |what: &str, keys: &[String]| (!keys.is_empty()).then(|| format!("{what} {}", keys.join(", ")));
    let of_keys = [list("keys without effect:", &keys.known), list("unknown keys, ignored:", &keys.unknown)];
    of_tensors.chain(of_keys.into_iter().flatten()).collect()
}

fn fits(shards: u64, plan: &MemoryPlan, room: Option<Room>) -> String {
    let cut = if shards > 1 { format!("; its largest matrix is split into {shards} shards") } else { String::new() };
    match room {
        Some(room) if room.holds(plan) => format!("{cut}; it fits: {room}"),
        Some(room) => format!("{cut}; it does not fit: {room}"),
        None => {
            format!("{cut}; the driver does not report free memory, {} must be free", Bytes(plan.total()))
        }
    }
}

/// Bytes of the matrices by stored type.
fn types(tensors: &ModelTensors<'_>) -> Vec<(String, u64)> {
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in tensors.matrices() {
        *types.entry(tensor.stored_as()).or_default() += tensor.bytes.len() as u64;
    }
    types.into_iter().collect()
}
