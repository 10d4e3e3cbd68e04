//! Export to a folder in Hugging Face's layout: model.safetensors, config.json, the tokenizer's files.

use super::{Meter, Planned, Target, encode, planned};
use crate::error::{Error, Result};
use crate::format::{Entry, WeightFormat, blocks_entry, safetensors_header};
use crate::model::{Naming, Progress, Recipe, Role, ValueMap};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::checkpoint::defaults;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// The tensors that one is written as: the weight or its codes first, then its parts.
fn entries(planned: &Planned<'_>) -> Vec<Entry> {
    let (name, shape) = (planned.id.name(Naming::Transformers), &planned.tensor.shape);
    let beside = |part: &str| format!("{}.{part}", name.strip_suffix(".weight").unwrap_or(&name));
    let values: usize = shape.iter().product();
    match planned.target {
        Target::Mapped(_) => vec![Entry::new(name, "F32", shape)],
        Target::Blocks(WeightFormat::F32) => vec![Entry::new(name, "F32", shape)],
        Target::Blocks(WeightFormat::F16) => vec![Entry::new(name, "F16", shape)],
        Target::Blocks(WeightFormat::Bf16) => vec![Entry::new(name, "BF16", shape)],
        Target::Blocks(format) => {
            let columns = planned.tensor.columns();
            vec![Entry::new(name, "U8", &[values / columns, format.row_bytes(columns)])]
        }
        Target::Bnb4(format) => vec![
            Entry::new(name.clone(), "U8", &[values.div_ceil(2), 1]),
            Entry::new(format!("{name}.absmax"), "F32", &[values.div_ceil(format.block_values())]),
            Entry::new(format!("{name}.quant_map"), "F32", &[16]),
            Entry::new(format!("{name}.quant_state.bitsandbytes__{format}"), "U8", &[quant_state(format, shape).len()]),
        ],
        Target::BnbInt8 => vec![
            Entry::new(name.clone(), "I8", shape),
            Entry::new(beside("SCB"), "F32", &[shape[0]]),
            Entry::new(beside("weight_format"), "U8", &[]),
        ],
    }
}

/// The quant_state that bitsandbytes stores with a matrix of 4-bit codes.
fn quant_state(format: WeightFormat, shape: &[usize]) -> Vec<u8> {
    json!({ "quant_type": format.name(), "blocksize": format.block_values(), "dtype": "float32", "shape": shape })
        .to_string()
        .into_bytes()
}

/// The quant_map of a format: the values of its codes.
fn quant_map(format: WeightFormat) -> Vec<u8> {
    // A block of all codes with the scale 1.
    let mut block = vec![0; format.block_bytes()];
    block[..4].copy_from_slice(&1f32.to_le_bytes());
    for (i, byte) in block[4..12].iter_mut().enumerate() {
        *byte = (i << 5 | (2 * i + 1)) as u8;
    }
    let mut values = [0.0; 64];
    format.decode_row(&block, &mut values);
    values[..16].iter().flat_map(|v| v.to_le_bytes()).collect()
}

impl Checkpoint {
    /// Writes the folder; returns the bytes of the weights file.
    pub(super) fn write_folder(
        &self,
        dir: &Path,
        weights: WeightFormat,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64> {
        self.write_small_files(dir, weights)?;
        let tensors = self.tensors()?;
        let planned = planned(&tensors, Recipe::To(weights), Naming::Transformers, |role, tensor, format| {
            let stored = tensor.held_as();
            let plain = if stored.is_plain() { stored } else { WeightFormat::F16 };
            match (role, weights) {
                (None, _) => Target::Blocks(if stored.is_plain() { stored } else { WeightFormat::F32 }),
                // bitsandbytes does not quantize the embedding and the head.
                (
                    Some(Role::Embedding | Role::TiedEmbedding | Role::Head),
                    WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8,
                ) => Target::Blocks(plain),
                (_, WeightFormat::Nf4 | WeightFormat::Fp4) => Target::Bnb4(weights),
                (_, WeightFormat::Int8) => Target::BnbInt8,
                _ => Target::Blocks(format),
            }
        });
        write_weights(&dir.join("model.safetensors"), &planned, Meter::new(&tensors, progress))
    }

    fn write_small_files(&self, dir: &Path, weights: WeightFormat) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            std::fs::write(&path, bytes).map_err(|e| Error::io("write", path, e))
        };
        let pretty = |json: &Value| format!("{json:#}\n").into_bytes();
        let config = self.config_json(weights)?;
        write("config.json", &pretty(&config))?;
        if self.source().metadata().is_none() {
            for name in [
                "generation_config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
                "chat_template.jinja",
            ] {
                if let Some(bytes) = self.small_file(name)? {
                    write(name, &bytes)?;
                }
            }
            return Ok(());
        }
        let mut generation = defaults::to_json(self.defaults());
        generation.insert("eos_token_id".to_owned(), json!(self.eos()));
        write("generation_config.json", &pretty(&generation.into()))?;
        if let Some((tokenizer, tokenizer_config)) = self.tokenizer_of_gguf()? {
            write("tokenizer.json", tokenizer.to_string().as_bytes())?;
            write("tokenizer_config.json", &pretty(&tokenizer_config))?;
        }
        Ok(())
    }

    fn config_json(&self, weights: WeightFormat) -> Result<Value> {
        let mut config = match self.small_json("config.json")? {
            Some(config) => config,
            None => self.config().to_json(self.tensors()?.head.is_none()),
        };
        self.config().architecture.complete_json(&mut config);
        let dtype = match weights {
            WeightFormat::F32 => Some("float32"),
            WeightFormat::F16 => Some("float16"),
            WeightFormat::Bf16 => Some("bfloat16"),
            _ => None,
        };
        if let Some(dtype) = dtype {
            config["torch_dtype"] = dtype.into();
        }
        let fields = config.as_object_mut().expect("a config that was read is an object");
        // A head that equals the embedding is not written twice.
        if !self.config().tied && self.tensors()?.head.is_none() {
            for key in ["tie_word_embeddings", "tie_embeddings"] {
                fields.entry(key).and_modify(|tied| *tied = true.into());
            }
        }
        fields.shift_remove("quantization_config");
        let bits = match weights {
            WeightFormat::Nf4 | WeightFormat::Fp4 => json!({
                "load_in_4bit": true, "load_in_8bit": false, "bnb_4bit_quant_type": weights.name(),
                "bnb_4bit_use_double_quant": false, "bnb_4bit_compute_dtype": "float32", "bnb_4bit_quant_storage": "uint8",
                "quant_method": "bitsandbytes",
            }),
            WeightFormat::Int8 => json!({
                "load_in_4bit": false, "load_in_8bit": true, "llm_int8_threshold": 6.0, "llm_int8_skip_modules": null,
                "llm_int8_has_fp16_weight": false, "llm_int8_enable_fp32_cpu_offload": false,
                "quant_method": "bitsandbytes",
            }),
            plain if plain.is_plain() => return Ok(config),
            // Tells other programs that they cannot read this folder.
            blocks => json!({ "quant_method": "peregrine", "format": blocks.name() }),
        };
        config["quantization_config"] = bits;
        Ok(config)
    }
}

fn write_weights(path: &Path, planned: &[Planned<'_>], mut meter: Meter<'_>) -> Result<u64> {
    let fail = |e| Error::io("write", path, e);
    let all: Vec<Vec<Entry>> = planned.iter().map(entries).collect();
    let flat: Vec<&Entry> = all.iter().flatten().collect();
    let mut said = serde_json::Map::new();
    for planned in planned {
        if let Target::Blocks(format) = planned.target
            && !format.is_plain()
        {
            let name = planned.id.name(Naming::Transformers);
            let (key, value) = blocks_entry(&name, format, planned.tensor.columns());
            said.insert(key, value.into());
        }
    }
    let (head, places) = safetensors_header(&flat, said);
    let mut file = File::create(path).map_err(fail)?;
    file.write_all(&head).map_err(fail)?;
    let mut places = places.into_iter();
    for (planned, entries) in planned.iter().zip(&all) {
        let mut places = entries.iter().map(|_| places.next().expect("a place for each entry"));
        let mut next = |file: &mut File| -> Result<()> {
            let place = places.next().expect("a place for each entry");
            file.seek(SeekFrom::Start(place)).map(drop).map_err(fail)
        };
        next(&mut file)?;
        let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(fail);
        let (tensor, meter) = (planned.tensor, &mut meter);
        let beside = match planned.target {
            Target::Blocks(format) => {
                encode::blocks(tensor, format, meter, &mut write)?;
                vec![]
            }
            Target::Mapped(map) => {
                check_a(planned, map)?;
                encode::mapped(tensor, |v| map.of(v), meter, &mut write)?;
                vec![]
            }
            Target::Bnb4(format) => {
                let scales = encode::bnb4(tensor, format, meter, &mut write)?;
                vec![scales, quant_map(format), quant_state(format, &tensor.shape)]
            }
            Target::BnbInt8 => vec![encode::bnb_int8(tensor, meter, &mut write)?, vec![0]],
        };
        for bytes in beside {
            next(&mut file)?;
            file.write_all(&bytes).map_err(fail)?;
        }
    }
    Ok(head.len() as u64 + flat.iter().map(|entry| entry.bytes).sum::<u64>())
}

/// Checks that A has a logarithm: it must be negative, as it is in every sound model.
fn check_a(planned: &Planned<'_>, map: ValueMap) -> Result<()> {
    let tensor = planned.tensor;
    if map == ValueMap::LogOfMinus && !tensor.to_f32().iter().all(|a| *a < 0.0) {
        let what = format!("{}: a value of A that is not negative", planned.id.name(Naming::Gguf));
        let hint = "a folder holds its logarithm; write a .gguf file".to_owned();
        return Err(Error::Unsupported { file: tensor.file.to_owned(), what, hint });
    }
    Ok(())
}
