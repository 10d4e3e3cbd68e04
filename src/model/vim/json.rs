//! A Vision Mamba's config.json, with the names of the arguments of the released VisionMamba. Sizes that it lacks come from the
//! shapes of the tensors, so that a checkpoint without a config can be read.

use super::Vim;
use crate::error::{Error, Result};
use crate::format::TensorSource;
use crate::input::shown;
use crate::model::config::{Json, LARGEST};
use serde_json::Value;

/// Settings that the kernels have, with the only value that they run.
const ONLY: [(&str, bool); 6] = [
    ("rms_norm", true),
    ("if_abs_pos_embed", true),
    ("if_cls_token", true),
    ("if_rope", false),
    ("use_double_cls_token", false),
    ("if_bidirectional", false),
];

impl Vim {
    /// Whether a config.json is a Vision Mamba's.
    pub fn claims(config: &Value) -> bool {
        config.get("model_type").is_some_and(|kind| kind == "vim")
            || (config.get("patch_size").is_some() && config.get("bimamba_type").is_some())
    }

    /// Reads a config.json (`Value::Null` where there is none), called `file` in messages, beside its tensors.
    pub fn from_json(file: &str, config: &Value, source: &TensorSource) -> Result<Self> {
        let empty = Value::Object(serde_json::Map::new());
        let json = Json::new(file, if config.is_null() { &empty } else { config })?;
        check(&json)?;
        let shapes = Shapes { source };
        let [hidden, channels, patch, _] = shapes.of("patch_embed.proj.weight")?;
        let [_, tokens, _] = shapes.of("pos_embed")?;
        let [inner, state] = shapes.of("layers.0.mixer.A_log")?;
        let [_, _, conv_kernel] = shapes.of("layers.0.mixer.conv1d.weight")?;
        let [_, dt_rank] = shapes.of("layers.0.mixer.dt_proj.weight")?;
        let classes = match source.has("head.weight") {
            true => shapes.of::<2>("head.weight")?[0],
            false => 0,
        };
        let has_layer = |layer: &usize| source.has(&format!("layers.{layer}.norm.weight"));
        let layers = (0..LARGEST).take_while(has_layer).count();
        let (image, step) = grid(&json, patch, tokens)?;
        let vim = Vim {
            image,
            channels,
            patch,
            step,
            hidden,
            layers,
            inner,
            state,
            dt_rank,
            conv_kernel,
            classes,
            norm_eps: json.eps("norm_epsilon", 1e-5)?,
            class_in_middle: json.flag("use_middle_cls_token")?.unwrap_or(true),
            halved: json.flag("if_divide_out")?.or(json.flag("if_devide_out")?).unwrap_or(true),
            labels: labels(&json, classes)?,
        };
        vim.agree(&json)?;
        vim.check(file)?;
        Ok(vim)
    }

    /// Refuses a config that says other sizes than the tensors have.
    fn agree(&self, json: &Json<'_>) -> Result<()> {
        let said = [
            ("embed_dim", self.hidden),
            ("depth", self.layers),
            ("channels", self.channels),
            ("patch_size", self.patch),
            ("d_state", self.state),
            ("d_conv", self.conv_kernel),
            ("num_classes", self.classes),
        ];
        for (key, has) in said {
            // Where the head was taken off, num_classes remains.
            if let Some(said) = json.size(key)?.filter(|said| *said != has && !(key == "num_classes" && has == 0)) {
                return Err(
                    json.bad(format!("{key} is {said}, the tensors have {has}; is config.json of another model?"))
                );
            }
        }
        Ok(())
    }

    /// Refuses sizes that the kernels do not run.
    fn check(&self, file: &str) -> Result<()> {
        let unsupported =
            |what: String, hint: &str| Err(Error::Unsupported { file: file.to_owned(), what, hint: hint.to_owned() });
        if self.channels != 3 {
            return unsupported(format!("a model of {} channels", self.channels), "supported are RGB pictures");
        }
        if !(1..=64).contains(&self.state) {
            return unsupported(format!("a state size of {}", self.state), "supported are 1 to 64");
        }
        if !(2..=16).contains(&self.conv_kernel) {
            return unsupported(format!("a conv kernel of {}", self.conv_kernel), "supported are 2 to 16");
        }
        let sizes = [self.hidden, self.inner, self.patch, self.step, self.dt_rank, self.layers];
        if sizes.iter().any(|size| !(1..=LARGEST).contains(size)) {
            return unsupported(format!("a model of sizes {sizes:?}"), &format!("supported are 1 to {LARGEST}"));
        }
        Ok(())
    }
}

/// Refuses settings of variants whose mixers or tokens differ.
fn check(json: &Json<'_>) -> Result<()> {
    for (key, only) in ONLY {
        if let Some(said) = json.flag(key)?.filter(|said| *said != only) {
            return Err(json.unsupported(format!("{key}: {said}"), &format!("supported are models with {key}: {only}")));
        }
    }
    if let Some(kind) = json.get("bimamba_type").filter(|kind| kind.as_str() != Some("v2")) {
        return Err(json.unsupported(format!("bimamba_type {}", shown(kind)), "supported is v2"));
    }
    Ok(())
}

/// Shapes of the checkpoint's tensors.
struct Shapes<'a> {
    source: &'a TensorSource,
}

impl Shapes<'_> {
    fn of<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let missing = || Error::MissingTensor {
            tensor: name.to_owned(),
            file: self.source.label().to_owned(),
            hint: "peregrine reads Vision Mamba checkpoints with the names of the released models".to_owned(),
        };
        let found = self.source.shape(name).ok_or_else(missing)?;
        found.clone().try_into().map_err(|_| Error::WrongShape {
            tensor: name.to_owned(),
            file: self.source.label().to_owned(),
            found,
            wanted: vec![0; N],
            said_by: "a Vision Mamba",
        })
    }
}

/// The trained size of pictures, and the pixels from one patch to the next, that make this many tokens.
fn grid(json: &Json<'_>, patch: usize, tokens: usize) -> Result<([usize; 2], usize)> {
    let side = (tokens.saturating_sub(1) as f64).sqrt().round() as usize;
    let step = json.size("stride")?;
    let image = match json.get("img_size") {
        Some(Value::Array(_)) => {
            let sides: Option<Vec<usize>> = json.get("img_size").and_then(Value::as_array).and_then(|sides| {
                sides
                    .iter()
                    .map(|v| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= LARGEST))
                    .collect()
            });
            match sides.as_deref() {
                Some([height, width]) => Some([*height, *width]),
                _ => return Err(json.bad("img_size must be a size or a height and a width".to_owned())),
            }
        }
        _ => json.size("img_size")?.map(|side| [side; 2]),
    };
    let made = |[height, width]: [usize; 2], step: usize| {
        let along = |side: usize| if side < patch { 0 } else { (side - patch) / step + 1 };
        along(height) * along(width) + 1
    };
    let (image, step) = match (image, step) {
        (Some(image), Some(step)) => (image, step),
        // The released models of 224 pixels step by a patch or by half of one.
        (Some(image), None) => (image, if made(image, patch) == tokens { patch } else { (patch / 2).max(1) }),
        (None, Some(step)) => ([side.saturating_sub(1) * step + patch; 2], step),
        (None, None) if patch == 16 && side == 27 => ([224; 2], 8),
        (None, None) => ([side * patch; 2], patch),
    };
    if made(image, step) != tokens {
        let [height, width] = image;
        return Err(json.bad(format!(
            "pictures of {height}x{width} in patches of {patch} every {step} make {} tokens, but pos_embed has {tokens}; \
             img_size and stride must be those of the training",
            made(image, step)
        )));
    }
    Ok((image, step))
}

/// Names of the classes by `id2label`.
fn labels(json: &Json<'_>, classes: usize) -> Result<Vec<String>> {
    let Some(names) = json.get("id2label").and_then(Value::as_object) else { return Ok(vec![]) };
    if names.is_empty() {
        return Ok(vec![]);
    }
    let name = |class: usize| names.get(&class.to_string()).and_then(Value::as_str).map(str::to_owned);
    let all: Option<Vec<String>> = (0..classes).map(name).collect();
    all.ok_or_else(|| json.bad(format!("id2label must name the {classes} classes of the head")))
}
