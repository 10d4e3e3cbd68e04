//! [`Config`] from config.json, in the words of transformers or of mamba_ssm.

use super::{Config, Family, LARGEST, eos_ids};
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::input::shown;
use crate::model::layout::Layout;
use crate::model::names::{LayerPart, Part};
use serde_json::Value;

/// config.json, or an object in it, with the name it goes by in messages.
pub(super) struct Json<'a> {
    pub(super) file: &'a str,
    /// What its keys begin with in messages.
    path: &'static str,
    pub(super) value: &'a Value,
}

impl<'a> Json<'a> {
    fn bad(&self, problem: String) -> Error {
        Error::BadConfig { file: self.file.to_owned(), problem }
    }

    pub(super) fn unsupported(&self, what: impl Into<String>, hint: &str) -> Error {
        Error::Unsupported { file: self.file.to_owned(), what: what.into(), hint: hint.to_owned() }
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Error {
        self.bad(format!("{}{key} is {}, it must be {wanted}", self.path, shown(value)))
    }

    /// A key that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (1..=LARGEST).contains(&n) => Ok(Some(n)),
            _ => Err(self.wrong(key, value, &format!("a whole number from 1 to {LARGEST}"))),
        }
    }

    /// The first of these keys that is there.
    fn either(&self, keys: [&str; 2]) -> Result<Option<usize>> {
        Ok(self.size(keys[0])?.or(self.size(keys[1])?))
    }

    fn needed(&self, keys: [&str; 2]) -> Result<usize> {
        self.either(keys)?.ok_or_else(|| self.bad(format!("{} is missing", keys[0])))
    }

    fn eps(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match value.as_f64() {
            Some(eps) if (0.0..1.0).contains(&eps) => Ok(eps as f32),
            _ => Err(self.wrong(key, value, "a small number from 0 on")),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    fn dt_rank(&self, key: &str) -> Result<Option<usize>> {
        if self.get(key).and_then(Value::as_str) == Some("auto") { Ok(None) } else { self.size(key) }
    }

    /// An object in it; an empty one where it is not there.
    pub(super) fn object(&self, key: &str, path: &'static str) -> Result<Json<'a>> {
        match self.get(key) {
            None => Ok(Json { file: self.file, path, value: &Value::Null }),
            Some(value) if value.is_object() => Ok(Json { file: self.file, path, value }),
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }
}

impl Config {
    /// Reads config.json, in the style of transformers (`falcon_mamba`, `mamba`) or of mamba_ssm. Where a size is missing
    /// there, the shape of a weight has it. `file` is the name for messages.
    pub fn from_json(file: &str, value: &Value, source: &TensorSource) -> Result<Self> {
        let json = Json { file, path: "", value };
        if !value.is_object() {
            return Err(json.bad("it is not a JSON object".to_owned()));
        }
        let falcon = falcon(&json)?;
        super::keys::check(&json)?;
        let layout = Layout::of(source)?;
        let shape = |part: Part| source.shape(&layout.name(part));
        let has = Weights {
            // Half the rows of the first in_proj.
            inner: shape(Part::Layer(0, LayerPart::InProj))
                .and_then(|shape| Some(shape.first()? / 2))
                .filter(|inner| (1..=LARGEST).contains(inner)),
            vocab: shape(Part::Embedding).and_then(|shape| shape.first().copied()),
            head: layout.has(Part::Head),
        };
        let config = match json.get("hidden_size") {
            None if json.get("d_model").is_some() => Self::mamba_ssm(&json, &has, falcon)?,
            _ => Self::transformers(&json, &has, falcon)?,
        };
        config.check(file)
    }

    fn transformers(json: &Json, has: &Weights, falcon: bool) -> Result<Self> {
        let hidden = json.needed(["hidden_size", "d_model"])?;
        // `expand` is 16 in falcon-mamba-7b, whose inner size is 2 x 4096: only intermediate_size and the weights are right.
        let inner = json.size("intermediate_size")?.or(has.inner);
        Ok(Config {
            family: family(json, falcon)?,
            vocab: json.needed(["vocab_size", "vocab_size"])?,
            hidden,
            inner: inner.ok_or_else(|| json.bad("intermediate_size is missing".to_owned()))?,
            state: json.size("state_size")?.unwrap_or(16),
            dt_rank: json.dt_rank("time_step_rank")?.unwrap_or(hidden.div_ceil(16)),
            conv_kernel: json.size("conv_kernel")?.unwrap_or(4),
            layers: json.needed(["num_hidden_layers", "n_layer"])?,
            norm_eps: json.eps("layer_norm_epsilon", 1e-5)?,
            conv_bias: json.flag("use_conv_bias")?.unwrap_or(true),
            tied: has.no_head(json.flag("tie_word_embeddings")?.or(json.flag("tie_embeddings")?)),
            eos: eos_ids(json.value),
        })
    }

    /// Keys of mamba_ssm's MambaConfig. Some who convert such models add `model_type` and keys of transformers to them.
    fn mamba_ssm(json: &Json, has: &Weights, falcon: bool) -> Result<Self> {
        let ssm = json.object("ssm_cfg", "ssm_cfg.")?;
        let hidden = json.needed(["d_model", "hidden_size"])?;
        let expand = ssm.size("expand")?.or(json.size("expand")?).unwrap_or(2);
        let dt_rank = ssm.dt_rank("dt_rank")?.or(json.dt_rank("time_step_rank")?);
        let vocab = json.needed(["vocab_size", "vocab_size"])?;
        let multiple = json.size("pad_vocab_size_multiple")?.unwrap_or(8);
        Ok(Config {
            family: family(json, falcon)?,
            // Those who add keys may have counted the rows.
            vocab: if has.vocab == Some(vocab) { vocab } else { vocab.next_multiple_of(multiple) },
            hidden,
            inner: has.inner.unwrap_or(hidden * expand),
            state: ssm.size("d_state")?.or(json.size("state_size")?).unwrap_or(16),
            dt_rank: dt_rank.unwrap_or(hidden.div_ceil(16)),
            conv_kernel: ssm.size("d_conv")?.or(json.size("conv_kernel")?).unwrap_or(4),
            layers: json.needed(["n_layer", "num_hidden_layers"])?,
            norm_eps: json.eps("layer_norm_epsilon", 1e-5)?,
            conv_bias: ssm.flag("conv_bias")?.or(json.flag("use_conv_bias")?).unwrap_or(true),
            tied: has.no_head(json.flag("tie_embeddings")?.or(json.flag("tie_word_embeddings")?)),
            eos: eos_ids(json.value),
        })
    }
}

/// What the weights tell.
struct Weights {
    inner: Option<usize>,
    vocab: Option<usize>,
    head: bool,
}

impl Weights {
    /// Whether there is no head but the embedding. One that the config says there is must be there; one that is there counts,
    /// whatever the config says.
    fn no_head(&self, said_to_be_tied: Option<bool>) -> bool {
        said_to_be_tied != Some(false) && !self.head
    }
}

/// Whether it is a Falcon Mamba; an error where it is no Mamba at all.
fn falcon(json: &Json) -> Result<bool> {
    const SUPPORTED: &str = "supported are falcon_mamba, mamba and mamba_ssm checkpoints";
    let architectures = json.get("architectures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = |name: &str| architectures.iter().any(|other| other.as_str() == Some(name));
    match json.get("model_type") {
        Some(Value::String(kind)) if kind == "falcon_mamba" => Ok(true),
        Some(Value::String(kind)) if kind == "mamba" => {
            Ok(named("FalconMambaForCausalLM") || named("FalconMambaModel"))
        }
        None if json.get("d_model").is_some() && json.get("n_layer").is_some() => Ok(false),
        Some(other) => Err(json.unsupported(format!("model_type {}", shown(other)), SUPPORTED)),
        None => match (json.get("error"), architectures) {
            (Some(error), _) => {
                let found = format!("an error that a server sent instead of the file: {}", shown(error));
                let advice = "download it again, perhaps with a login".to_owned();
                Err(Error::WrongKind { file: json.file.to_owned(), found, advice })
            }
            (None, []) => Err(json.unsupported("a config without model_type", SUPPORTED)),
            (None, [first, ..]) => Err(json
                .unsupported(format!("a config without model_type, of the architecture {},", shown(first)), SUPPORTED)),
        },
    }
}

fn family(json: &Json, falcon: bool) -> Result<Family> {
    // Absent in falcon-mamba-7b, where transformers takes 1e-6.
    Ok(if falcon { Family::FalconMamba { mixer_rms_eps: json.eps("mixer_rms_eps", 1e-6)? } } else { Family::Mamba })
}
