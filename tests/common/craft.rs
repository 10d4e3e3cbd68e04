//! GGUF files written byte by byte, to corrupt valid ones.
#![allow(dead_code, reason = "each test file uses its own part")]

use crate::common::Shape;

pub const U32: u32 = 4;
pub const F32: u32 = 6;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

/// The contents of a file.
#[derive(Clone)]
pub struct Craft {
    pub magic: Vec<u8>,
    pub version: u32,
    /// Overrides of the tensor and key counts.
    pub counts: [Option<u64>; 2],
    /// Name, type, value.
    pub keys: Vec<(String, u32, Vec<u8>)>,
    pub tensors: Vec<Info>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

#[derive(Clone)]
pub struct Info {
    pub name: String,
    /// Dimensions, fastest first.
    pub sizes: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The value of an array.
pub fn array(kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes(), &items.concat()].concat()
}

impl Craft {
    /// A model of this shape in F32.
    pub fn of(shape: Shape) -> Self {
        let mut craft = Craft {
            magic: b"GGUF".to_vec(),
            version: 3,
            counts: [None, None],
            keys: vec![],
            tensors: vec![],
            alignment: 32,
            data: vec![],
        };
        craft.set("general.architecture", STRING, string("mamba"));
        for (key, size) in [
            ("embedding_length", shape.hidden),
            ("block_count", shape.layers),
            ("ssm.conv_kernel", shape.kernel),
            ("ssm.inner_size", shape.inner),
            ("ssm.state_size", shape.state),
            ("ssm.time_step_rank", shape.dt_rank),
        ] {
            craft.set(&format!("mamba.{key}"), U32, (size as u32).to_le_bytes().to_vec());
        }
        craft.set("mamba.attention.layer_norm_rms_epsilon", F32, 1e-5f32.to_le_bytes().to_vec());
        craft.set("mamba.ssm.dt_b_c_rms", BOOL, vec![shape.falcon.into()]);
        for (name, mut sizes, mut values) in shape.tensors() {
            if name.ends_with("A_log") {
                values.iter_mut().for_each(|v| *v = -v.exp());
            }
            if name.ends_with("conv1d.weight") {
                sizes.remove(1);
            }
            let sizes: Vec<u64> = sizes.iter().rev().map(|n| *n as u64).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            craft.add(&renamed(&name), &sizes, 0, &bytes);
        }
        craft
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, kind: u32, value: Vec<u8>) {
        self.keys.retain(|(name, ..)| name != key);
        self.keys.push((key.to_owned(), kind, value));
    }

    /// Appends a tensor.
    pub fn add(&mut self, name: &str, sizes: &[u64], kind: u32, bytes: &[u8]) {
        let offset = self.data.len() as u64;
        self.tensors.push(Info { name: name.to_owned(), sizes: sizes.to_vec(), kind, offset });
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
    }

    pub fn tensor(&mut self, name: &str) -> &mut Info {
        self.tensors.iter_mut().find(|info| info.name == name).expect("there is such a tensor")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }

    /// Everything before the data.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = self.magic.clone();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.counts[0].unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.counts[1].unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.keys {
            bytes.extend(string(key));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for Info { name, sizes, kind, offset } in &self.tensors {
            bytes.extend(string(name));
            bytes.extend((sizes.len() as u32).to_le_bytes());
            sizes.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes
    }
}

/// llama.cpp's name of a transformers tensor.
fn renamed(name: &str) -> String {
    let name = name.replace("backbone.layers.", "blk.").replace(".mixer.", ".ssm_").replace(".norm.", ".attn_norm.");
    let name = name.replace("ssm_A_log", "ssm_a").replace("ssm_D", "ssm_d").replace("_proj.", ".");
    match name.as_str() {
        "backbone.embeddings.weight" => "token_embd.weight".to_owned(),
        "backbone.norm_f.weight" => "output_norm.weight".to_owned(),
        "lm_head.weight" => "output.weight".to_owned(),
        _ => name,
    }
}
