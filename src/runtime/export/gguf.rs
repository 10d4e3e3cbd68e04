//! Export to a GGUF file like those of llama.cpp's converter.

use super::{Meter, Planned, Target, encode, planned};
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::format::gguf::{Array, Header, Metadata, Outline, TensorType, Value};
use crate::model::{Naming, Progress, Recipe, ValueMap};
use crate::runtime::checkpoint::Checkpoint;
use crate::runtime::checkpoint::{Location, defaults, template_of};
use crate::text::{Tokenizer, Vocabulary, spelled};
use serde_json::Value as Json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

impl Checkpoint {
    /// Writes the file; returns its bytes.
    pub(super) fn write_gguf(
        &self,
        path: &Path,
        weights: WeightFormat,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64> {
        let fail = |e| Error::io("write", path, e);
        let metadata = self.metadata(weights)?;
        let tensors = self.tensors()?;
        let planned = planned(&tensors, Recipe::To(weights), Naming::Gguf, |role, tensor, format| {
            if role.is_none() {
                return Target::Mapped(ValueMap::Same);
            }
            // GGUF stores whole blocks only.
            let fits = TensorType::of(format).is_some() && tensor.columns() % format.block_values() == 0;
            Target::Blocks(if fits { format } else { WeightFormat::F16 })
        });
        let outlines: Vec<Outline> = planned.iter().map(outline).collect();
        let header = Header::new(&metadata, &outlines);
        let mut out = BufWriter::new(File::create(path).map_err(fail)?);
        out.write_all(&header.bytes).map_err(fail)?;
        let mut meter = Meter::new(&tensors, progress);
        for (planned, padding) in planned.iter().zip(&header.padding) {
            let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(fail);
            match planned.target {
                Target::Blocks(format) => encode::blocks(planned.tensor, format, &mut meter, &mut write)?,
                Target::Mapped(map) => encode::mapped(planned.tensor, |v| map.of(v), &mut meter, &mut write)?,
                Target::Bnb4(_) | Target::BnbInt8 => unreachable!("no GGUF file has formats of bitsandbytes"),
            }
            write(&vec![0; *padding])?;
        }
        out.flush().map_err(fail)?;
        drop(out);
        let padding: usize = header.padding.iter().sum();
        Ok(header.bytes.len() as u64 + padding as u64 + outlines.iter().map(|o| o.bytes).sum::<u64>())
    }

    fn metadata(&self, weights: WeightFormat) -> Result<Metadata> {
        let mut keys = match self.source().metadata() {
            // The keys of the original GGUF file stay true.
            Some(keys) => keys.clone(),
            None => self.describe()?,
        };
        keys.remove_prefix("split.");
        self.config().architecture.complete_gguf(&mut keys);
        defaults::to_gguf(self.defaults(), &mut keys);
        keys.set("general.file_type", Value::U32(file_type(weights)));
        keys.set("general.quantization_version", Value::U32(2));
        Ok(keys)
    }

    /// The keys that llama.cpp's converter would write for the config and the tokenizer.
    fn describe(&self) -> Result<Metadata> {
        let config = self.config();
        let mut keys = Metadata::new(self.label());
        let text = |text: &str| Value::String(text.to_owned());
        keys.set("general.architecture", text(config.architecture.gguf_name()));
        keys.set("general.type", text("model"));
        keys.set("general.name", text(&self.name()));
        config.describe_gguf(&mut keys);
        let Some(json) = self.tokenizer_json()? else {
            let vocab = u32::try_from(config.vocab).expect("a config's sizes are at most 2^20");
            keys.set(&format!("{}.vocab_size", config.architecture.gguf_name()), Value::U32(vocab));
            keys.set("tokenizer.ggml.model", text("no_vocab"));
            return Ok(keys);
        };
        let file = format!("{}: tokenizer.json", self.label());
        let Vocabulary { tokens, kinds, merges, pre, .. } = Vocabulary::from_json(&file, &json, config.vocab)?;
        keys.set("tokenizer.ggml.model", text("gpt2"));
        keys.set("tokenizer.ggml.pre", text(&pre));
        self.ids(&tokens, &mut keys)?;
        self.added_around(Tokenizer::from_json(&file, json.to_string().as_bytes())?.around(), &mut keys)?;
        let kinds: Vec<i32> = kinds.into_iter().map(|kind| kind.number()).collect();
        keys.set("tokenizer.ggml.tokens", Value::Array(Array::Strings(tokens)));
        keys.set("tokenizer.ggml.token_type", Value::Array(Array::of_i32(&kinds)));
        keys.set("tokenizer.ggml.merges", Value::Array(Array::Strings(merges)));
        let own = self.small_file("chat_template.jinja")?.and_then(|bytes| String::from_utf8(bytes).ok());
        let said = self.small_json("tokenizer_config.json")?.unwrap_or_default();
        if let Some(template) = own.as_deref().or(template_of(&said)) {
            keys.set("tokenizer.chat_template", text(template));
        }
        Ok(keys)
    }

    /// Ids of special tokens: from config.json, generation_config.json, or by their spelling in tokenizer_config.json.
    fn ids(&self, tokens: &[String], keys: &mut Metadata) -> Result<()> {
        let [config, generation, said] = ["config.json", "generation_config.json", "tokenizer_config.json"]
            .map(|name| self.small_json(name).map(Option::unwrap_or_default));
        let (config, generation, said) = (config?, generation?, said?);
        let first = |json: &Json, key: &str| match json.get(key) {
            Some(Json::Array(ids)) => ids.first().and_then(Json::as_u64),
            Some(id) => id.as_u64(),
            None => None,
        };
        for (key, name, spelled_in) in [
            ("bos_token_id", "bos", "bos_token"),
            ("eos_token_id", "eos", "eos_token"),
            ("pad_token_id", "padding", "pad_token"),
            ("unk_token_id", "unknown", "unk_token"),
        ] {
            let token = said.get(spelled_in).and_then(spelled).filter(|text| !text.is_empty());
            let by_spelling = || token.and_then(|text| tokens.iter().position(|t| t == text)).map(|id| id as u64);
            let id = first(&config, key).or_else(|| first(&generation, key)).or_else(by_spelling);
            if let Some(id) = id.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < tokens.len()) {
                keys.set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
            }
        }
        // A second EOS token is the end of a turn.
        let eos = keys.id("tokenizer.ggml.eos_token_id")?;
        if let Some(id) = self.eos().iter().find(|id| Some(**id) != eos) {
            keys.set("tokenizer.ggml.eot_token_id", Value::U32(*id));
        }
        Ok(())
    }

    /// The tokens added before and after a text. A GGUF file can name one of each.
    fn added_around(&self, around: &[Vec<u32>; 2], keys: &mut Metadata) -> Result<()> {
        for (ids, name) in around.iter().zip(["bos", "eos"]) {
            keys.set(&format!("tokenizer.ggml.add_{name}_token"), Value::Bool(!ids.is_empty()));
            match ids.as_slice() {
                [] => {}
                [id] => keys.set(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(*id)),
                many => {
                    return Err(Error::Unsupported {
                        file: format!("{}: tokenizer.json", self.label()),
                        what: format!("adding {} tokens before or after each text in a GGUF file", many.len()),
                        hint: "it can name one; write a folder instead".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The model's name: that of its folder or file.
    fn name(&self) -> String {
        let path = match self.location() {
            Location::Folder(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
            Location::Gguf(path) => path.clone(),
            Location::Memory { name, .. } => name.into(),
        };
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn outline(planned: &Planned<'_>) -> Outline {
    let tensor = planned.tensor;
    let shape = planned.id.gguf_shape(&tensor.shape);
    let format = if let Target::Blocks(format) = planned.target { format } else { WeightFormat::F32 };
    let rows = shape.iter().product::<usize>() / tensor.columns();
    Outline {
        name: planned.id.name(Naming::Gguf),
        tensor_type: TensorType::of(format).expect("the plan has types of GGUF only"),
        shape,
        bytes: (rows * format.row_bytes(tensor.columns())) as u64,
    }
}

/// llama.cpp's `general.file_type` of a file whose matrices mostly have this format.
fn file_type(weights: WeightFormat) -> u32 {
    match weights {
        WeightFormat::F32 => 0,
        WeightFormat::F16 => 1,
        WeightFormat::Q4_0 => 2,
        WeightFormat::Q8_0 => 7,
        // The medium mixes: for this architecture the small ones are the same.
        WeightFormat::Q4K => 15,
        WeightFormat::Q5K => 17,
        WeightFormat::Q6K => 18,
        WeightFormat::Bf16 => 32,
        WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8 => unreachable!("refused before"),
    }
}
