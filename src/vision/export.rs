//! Export: a folder with the weights as safetensors in another format, config.json and preprocessor_config.json.

use super::VisionCheckpoint;
use crate::error::{Error, Result};
use crate::format::{Entry, Tensor, WeightFormat, blocks_entry, safetensors_header};
use crate::model::{Progress, Recipe, Role, Vim};
use crate::runtime::{ExportOptions, OutputKind, write_staged};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Rows that are converted at a time.
const ROWS: usize = 256;

/// A tensor to be written, and its format.
struct Planned<'a> {
    tensor: &'a Tensor<'a>,
    /// The shape in the file.
    shape: Vec<usize>,
    format: WeightFormat,
}

impl VisionCheckpoint {
    /// Writes the checkpoint as a folder with its matrices in another format; other tensors stay as they are. The folder appears
    /// complete or not at all. Returns the bytes of the weights; `progress` reports how much of the input is done.
    pub fn export(
        &self,
        out: impl AsRef<Path>,
        options: ExportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64> {
        let (out, weights) = (out.as_ref(), options.weights);
        let refused = |problem: String| Err(Error::BadOutput { path: out.to_owned(), problem });
        if matches!(weights, WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8) {
            return refused(format!(
                "{weights} is not written for picture models; use f16, bf16, q8_0, q4_0 or a K-quant"
            ));
        }
        if out.extension().is_some_and(|ending| ending == "gguf") {
            return refused("picture models are written as a folder, not as a GGUF file".to_owned());
        }
        let from = (self.path(), options.existing);
        write_staged(out, OutputKind::Folder, from, |dir| self.write_folder(dir, weights, progress))
    }

    /// Writes the files of the folder `dir`, which exists; returns the bytes of the weights.
    fn write_folder(&self, dir: &Path, weights: WeightFormat, progress: &mut dyn FnMut(Progress)) -> Result<u64> {
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(|e| Error::io("write", path, e))
        };
        let pretty = |json: &Value| format!("{json:#}\n").into_bytes();
        write("config.json", &pretty(&self.config_json(weights)))?;
        if let Some(bytes) = self.preprocessor() {
            write("preprocessor_config.json", bytes)?;
        }
        let tensors = self.tensors()?;
        let recipe = Recipe::To(weights);
        let planned: Vec<Planned<'_>> = tensors
            .all()
            .map(|tensor| {
                let format = match role(&tensor.name) {
                    Some(role) => recipe.format(role, tensor.held_as(), tensor.columns()),
                    None => tensor.held_as(),
                };
                // A patch's weights are a row for the products, and three dimensions in files.
                let shape = match tensor.name == "patch_embed.proj.weight" && format.is_plain() {
                    true => vec![tensor.rows(), self.vim().channels, self.vim().patch, self.vim().patch],
                    false => tensor.shape.clone(),
                };
                Planned { tensor, shape, format }
            })
            .collect();
        write_weights(&dir.join("model.safetensors"), &planned, progress)
    }

    fn config_json(&self, weights: WeightFormat) -> Value {
        let mut config = match self.config() {
            Some(config) => config.clone(),
            None => describe(self.vim()),
        };
        config["model_type"] = "vim".into();
        let dtype = match weights {
            WeightFormat::F32 => "float32",
            WeightFormat::Bf16 => "bfloat16",
            _ => "float16",
        };
        config["torch_dtype"] = dtype.into();
        if !weights.is_plain() {
            // Tells other programs that they cannot read this folder.
            config["quantization_config"] = json!({ "quant_method": "peregrine", "format": weights.name() });
        }
        config
    }
}

/// The role of a matrix by its name; `None` for vectors, taps, A and positions.
fn role(name: &str) -> Option<Role> {
    match name {
        "head.weight" => Some(Role::Head),
        "patch_embed.proj.weight" => Some(Role::Projection),
        _ => {
            let matrix = ["in_proj", "out_proj", "x_proj", "x_proj_b", "dt_proj", "dt_proj_b"];
            let is_matrix = |end: &str| name.ends_with(&format!(".{end}.weight"));
            matrix.into_iter().any(is_matrix).then_some(Role::Projection)
        }
    }
}

/// A config.json with the names of the released VisionMamba's arguments.
fn describe(vim: &Vim) -> Value {
    let [height, width] = vim.image;
    let image = if height == width { json!(height) } else { json!([height, width]) };
    json!({
        "architectures": ["VisionMamba"], "model_type": "vim", "img_size": image, "patch_size": vim.patch,
        "stride": vim.step, "channels": vim.channels, "embed_dim": vim.hidden, "depth": vim.layers,
        "d_state": vim.state, "d_conv": vim.conv_kernel, "dt_rank": vim.dt_rank, "num_classes": vim.classes,
        "rms_norm": true, "norm_epsilon": vim.norm_eps, "bimamba_type": "v2", "if_abs_pos_embed": true,
        "if_cls_token": true, "use_middle_cls_token": vim.class_in_middle, "if_divide_out": vim.halved,
    })
}

fn write_weights(path: &Path, planned: &[Planned<'_>], progress: &mut dyn FnMut(Progress)) -> Result<u64> {
    let fail = |e| Error::io("write", path, e);
    let mut metadata = Map::new();
    let mut entry = |Planned { tensor, shape, format }: &Planned<'_>| {
        let (dtype, shape) = match format {
            WeightFormat::F32 => ("F32", shape.clone()),
            WeightFormat::F16 => ("F16", shape.clone()),
            WeightFormat::Bf16 => ("BF16", shape.clone()),
            _ => {
                let (key, value) = blocks_entry(&tensor.name, *format, tensor.columns());
                metadata.insert(key, value.into());
                ("U8", vec![tensor.rows(), format.row_bytes(tensor.columns())])
            }
        };
        Entry::new(tensor.name.clone(), dtype, &shape)
    };
    let entries: Vec<Entry> = planned.iter().map(&mut entry).collect();
    let (head, places) = safetensors_header(&entries.iter().collect::<Vec<_>>(), metadata);
    let mut file = File::create(path).map_err(fail)?;
    file.write_all(&head).map_err(fail)?;
    let (mut done, total) = (0, planned.iter().map(|planned| planned.tensor.bytes.len() as u64).sum());
    for (Planned { tensor, format, .. }, place) in planned.iter().zip(places) {
        file.seek(SeekFrom::Start(place)).map_err(fail)?;
        let (rows, columns) = (tensor.rows(), tensor.columns());
        for first in (0..rows).step_by(ROWS) {
            let some = first..(first + ROWS).min(rows);
            let mut values = vec![0.0; some.len() * columns];
            tensor.decode_rows(some, &mut values);
            file.write_all(&format.encode(&values, columns)).map_err(fail)?;
        }
        done += tensor.bytes.len() as u64;
        progress(Progress { done, total });
    }
    Ok(head.len() as u64 + entries.iter().map(|entry| entry.bytes).sum::<u64>())
}
