//! `peregrine inspect` of a picture model: its config, tensor types, and memory by resolution.

use peregrine::format::Tensor;
use peregrine::gpu::{Caps, Gpu};
use peregrine::model::Bytes;
use peregrine::runtime::EngineOptions;
use peregrine::vision::VisionCheckpoint;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Sides of pictures that memory is listed for, beside that of the training.
const SIDES: [usize; 5] = [224, 512, 1024, 1248, 2048];

/// Prints it.
pub fn inspect(path: &Path, gpu: Option<&Gpu>, options: &EngineOptions, as_json: bool) -> anyhow::Result<()> {
    let checkpoint = VisionCheckpoint::open(path)?;
    let (vim, tensors) = (checkpoint.vim(), checkpoint.tensors()?);
    // Without a device the plan uses WebGPU's guaranteed limits.
    let caps = gpu.map_or_else(Caps::portable, |gpu| gpu.caps().clone());
    let room = options.memory.or_else(|| gpu.and_then(Gpu::free_memory).map(|free| free.bytes()));
    let weights = vim.weight_bytes(&tensors, options.weights);
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in tensors.all() {
        *types.entry(Tensor::stored_as(tensor)).or_default() += tensor.bytes.len() as u64;
    }
    let sides = SIDES.into_iter().filter(|side| *side > vim.image[0]).map(|side| [side; 2]);
    let plans: Vec<_> = [vim.image]
        .into_iter()
        .chain(sides)
        .map(|image| {
            let total = weights + vim.activation_bytes(&caps, image, 1);
            let fits = vim.fits(&caps, weights, (image, 1), room);
            (image, vim.patches(image).tokens(), total, fits)
        })
        .collect();
    let [height, width] = vim.image;
    let mut out = std::io::stdout().lock();
    if as_json {
        let plans = plans.iter().map(|([height, width], tokens, total, fits)| {
            json!({ "height": height, "width": width, "tokens": tokens, "total": total, "fits": fits })
        });
        let report = json!({
            "model": checkpoint.label(), "family": "Vision Mamba", "parameters": vim.parameters(), "layers": vim.layers,
            "hidden": vim.hidden, "inner": vim.inner, "state": vim.state, "dt_rank": vim.dt_rank,
            "conv_kernel": vim.conv_kernel, "classes": vim.classes, "image": vim.image, "patch": vim.patch,
            "stride": vim.step, "checkpoint_bytes": tensors.bytes(), "types": types,
            "device": gpu.map(|gpu| gpu.info().to_string()),
            "memory": { "weights": weights, "room": room, "pictures": plans.collect::<Vec<_>>() },
        });
        writeln!(out, "{report:#}")?;
        return Ok(());
    }
    writeln!(out, "model        {}", checkpoint.label())?;
    writeln!(
        out,
        "family       Vision Mamba: {} layers, hidden {}, inner {}, state {}, dt rank {}, conv kernel {}",
        vim.layers, vim.hidden, vim.inner, vim.state, vim.dt_rank, vim.conv_kernel
    )?;
    writeln!(out, "parameters   {}", vim.parameters())?;
    let types: Vec<String> = types.into_iter().map(|(name, bytes)| format!("{name} {}", Bytes(bytes))).collect();
    writeln!(out, "checkpoint   {}: {}", Bytes(tensors.bytes()), types.join(", "))?;
    writeln!(
        out,
        "pictures     {height}x{width}, patches of {} every {} pixels, {} tokens; {}",
        vim.patch,
        vim.step,
        vim.patches(vim.image).tokens(),
        if vim.classes == 0 { "no head".to_owned() } else { format!("{} classes", vim.classes) }
    )?;
    if let Some(room) = room {
        writeln!(out, "room         {}", Bytes(room))?;
    }
    writeln!(out, "memory       weights {}; of one picture at a time, with its activations:", Bytes(weights))?;
    for ([height, width], tokens, total, fits) in plans {
        let fits = if fits { "" } else { "  does not fit" };
        writeln!(
            out,
            "  {:<10} {tokens:>6} tokens  {:>9}{fits}",
            format!("{height}x{width}"),
            Bytes(total).to_string()
        )?;
    }
    Ok(())
}
