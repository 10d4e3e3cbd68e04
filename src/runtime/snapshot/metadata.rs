//! A snapshot's fields besides tensors, as entries of a safetensors file's `__metadata__`.

use super::fingerprint::{Identity, Loaded, hex, unhex};
use super::origin::Origin;
use super::{Precision, Snapshot};
use crate::kernels::linear::Math;
use crate::model::{Config, ConfigEntry, SlotState};
use crate::runtime::conversation::Conversation;
use crate::runtime::sampler::Sampling;
use crate::text::Message;
use half::bf16;
use serde_json::{Map, Number, Value, json};
use std::collections::{BTreeMap, HashMap};

/// Largest entry in bytes, apart from messages, text and lists: longer ones are malicious.
const LONGEST: usize = 1 << 16;

type Read<T> = Result<T, String>;

/// A message; its other fields are JSON in a text, as all of its values are texts.
fn message_entry(message: &Message) -> Value {
    let mut entry = json!({"role": message.role, "content": message.content});
    if !message.fields.is_empty() {
        entry["fields"] = Value::Object(message.fields.clone()).to_string().into();
    }
    entry
}

/// The entries of a snapshot, except the format, its version and the checksum.
pub(super) fn entries(snapshot: &Snapshot) -> Map<String, Value> {
    let Snapshot { state: _, precision, conversation, sampling, origin } = snapshot;
    // Ids are tensors.
    let Conversation { messages, text, ids: _, recent: _, position, unfinished, matching: _, ended } = conversation;
    let messages: Vec<Value> = messages.iter().map(message_entry).collect();
    // JSON has no infinity: null is a bias of -inf, which bans a token.
    let bias = sampling.logit_bias.iter().map(|(id, bias)| json!([id, bias.is_finite().then_some(bias)]));
    let texts = [
        ("precision", if *precision == Precision::Half { "f16" } else { "f32" }.to_owned()),
        ("position", position.to_string()),
        ("ended", ended.to_string()),
        ("unfinished", hex(unfinished)),
        ("text", text.clone()),
        ("messages", Value::from(messages).to_string()),
        ("sampling", sampling_entry(sampling).to_string()),
        ("logit_bias", bias.collect::<Value>().to_string()),
        ("model", model_entry(&origin.identity).to_string()),
        ("weights", origin.loaded.formats.clone()),
        ("weights_digest", origin.loaded.digest.clone()),
        ("arithmetic", origin.math.to_string()),
        ("adapter", origin.adapter.clone()),
        ("kernels", origin.kernels.clone()),
        ("peregrine", origin.version.clone()),
    ];
    texts.into_iter().map(|(key, text)| (key.to_owned(), Value::from(text))).collect()
}

fn sampling_entry(sampling: &Sampling) -> Value {
    let s = sampling;
    json!({
        "temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p, "min_p": s.min_p, "seed": s.seed,
        "repeat_penalty": s.repeat_penalty, "presence_penalty": s.presence_penalty,
        "frequency_penalty": s.frequency_penalty, "repeat_last_n": s.repeat_last_n,
    })
}

fn model_entry(identity: &Identity) -> Value {
    let values = |values: &[bf16]| hex(&values.iter().flat_map(|v| v.to_bits().to_be_bytes()).collect::<Vec<u8>>());
    let mut entry = identity.config.entry();
    entry.insert("vocabulary".to_owned(), identity.vocabulary.clone().into());
    entry.insert("vectors".to_owned(), values(&identity.vectors).into());
    entry.insert("matrices".to_owned(), values(&identity.matrices).into());
    entry.insert("stored".to_owned(), identity.stored.clone().into());
    entry.into()
}

/// The entries of a file.
pub(super) struct Entries<'a>(pub(super) &'a HashMap<String, String>);

impl Entries<'_> {
    fn long(&self, key: &str) -> Read<&str> {
        self.0.get(key).map(String::as_str).ok_or_else(|| format!("its metadata has no {key}"))
    }

    pub(super) fn text(&self, key: &str) -> Read<&str> {
        self.long(key).and_then(|text| match text.len() <= LONGEST {
            true => Ok(text),
            false => Err(format!("{key} is {} bytes long", text.len())),
        })
    }

    pub(super) fn number(&self, key: &str) -> Read<u64> {
        self.text(key).and_then(|text| text.parse().map_err(|_| format!("{key} is {text:?}")))
    }

    pub(super) fn config(&self) -> Read<Config> {
        Ok(self.identity()?.config)
    }

    /// A snapshot of these entries and tensors.
    pub(super) fn snapshot(&self, state: SlotState, recent: Vec<u32>, ids: Option<Vec<u32>>) -> Read<Snapshot> {
        let messages: Vec<BTreeMap<String, String>> =
            serde_json::from_str(self.long("messages")?).map_err(|e| format!("messages: {e}"))?;
        let messages = messages.into_iter().map(|mut message| {
            let mut take = |key: &str| message.remove(key).ok_or_else(|| format!("a message has no {key}"));
            let plain = Message::new(&take("role")?, take("content")?);
            let Some(fields) = message.remove("fields") else { return Ok(plain) };
            let fields = serde_json::from_str(&fields).map_err(|e| format!("the fields of a message: {e}"))?;
            Ok(Message { fields, ..plain })
        });
        Ok(Snapshot {
            state,
            precision: self.precision()?,
            conversation: Conversation {
                messages: messages.collect::<Read<_>>()?,
                text: self.long("text")?.to_owned(),
                ids,
                recent,
                position: self.number("position")?,
                unfinished: unhex(self.text("unfinished")?).ok_or("unfinished is not hexadecimal")?,
                matching: None,
                ended: self.text("ended")?.parse().map_err(|_| "ended is neither true nor false")?,
            },
            sampling: self.sampling()?,
            origin: Origin {
                identity: self.identity()?,
                loaded: Loaded {
                    formats: self.text("weights")?.to_owned(),
                    digest: self.text("weights_digest")?.to_owned(),
                },
                math: match self.text("arithmetic")? {
                    "exact" => Math::Exact,
                    "fast" => Math::Fast,
                    other => return Err(format!("arithmetic is {other:?}")),
                },
                adapter: self.text("adapter")?.to_owned(),
                kernels: self.text("kernels")?.to_owned(),
                version: self.text("peregrine")?.to_owned(),
            },
        })
    }

    pub(super) fn precision(&self) -> Read<Precision> {
        match self.text("precision")? {
            "f32" => Ok(Precision::Whole),
            "f16" => Ok(Precision::Half),
            other => Err(format!("precision is {other:?}")),
        }
    }

    fn sampling(&self) -> Read<Sampling> {
        let json: BTreeMap<String, Number> =
            serde_json::from_str(self.text("sampling")?).map_err(|e| format!("sampling: {e}"))?;
        let number = |key: &str| json.get(key).ok_or_else(|| format!("sampling has no {key}"));
        let value = |key: &str| Ok::<_, String>(number(key)?.as_f64().unwrap_or(f64::NAN) as f32);
        let whole = |key: &str| number(key)?.as_u64().ok_or_else(|| format!("{key} is not a whole number"));
        let bias: Vec<(u32, Option<f32>)> =
            serde_json::from_str(self.long("logit_bias")?).map_err(|e| format!("logit_bias: {e}"))?;
        Ok(Sampling {
            temperature: value("temperature")?,
            top_k: u32::try_from(whole("top_k")?).map_err(|_| "top_k is too large")?,
            top_p: value("top_p")?,
            min_p: value("min_p")?,
            seed: whole("seed")?,
            repeat_penalty: value("repeat_penalty")?,
            presence_penalty: value("presence_penalty")?,
            frequency_penalty: value("frequency_penalty")?,
            repeat_last_n: usize::try_from(whole("repeat_last_n")?).map_err(|_| "repeat_last_n is too large")?,
            logit_bias: bias.into_iter().map(|(id, bias)| (id, bias.unwrap_or(f32::NEG_INFINITY))).collect(),
        })
    }

    fn identity(&self) -> Read<Identity> {
        let json: Map<String, Value> = serde_json::from_str(self.text("model")?).map_err(|e| format!("model: {e}"))?;
        let entry = ConfigEntry(&json);
        let values = |key: &str| {
            let bytes = unhex(entry.text(key)?).ok_or_else(|| format!("{key} of the model are no values"))?;
            Ok::<_, String>(bytes.chunks_exact(2).map(|b| bf16::from_bits(u16::from_be_bytes([b[0], b[1]]))).collect())
        };
        Ok(Identity {
            config: entry.config()?,
            vocabulary: entry.get("vocabulary")?.as_str().map(str::to_owned),
            vectors: values("vectors")?,
            matrices: values("matrices")?,
            stored: entry.text("stored")?.to_owned(),
        })
    }
}
