//! Which model a state is of: the same answer for every copy of a model, whatever format its weights have.

use crate::format::{Tensor, WeightFormat};
use crate::model::{Config, LayerTensors, ModelTensors, Recipe};
use crate::runtime::Checkpoint;
use half::bf16;
use sha2::{Digest, Sha256};

/// Layers that are looked at, at most: the first, the last and some between.
const LAYERS: usize = 16;
/// Values that are taken of a vector, or of a row of a matrix.
const VALUES: usize = 12;
/// Rows that are taken of the table of embeddings.
const TOKENS: usize = 4;

/// What a model is known by: its shape, its tokens, and a few thousand of its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub(super) config: Config,
    /// Digest of the bytes that each token stands for, where there is a tokenizer.
    pub(super) vocabulary: Option<String>,
    /// Values of the vectors, which every format keeps as they are, rounded to bf16, which some checkpoints are stored in.
    pub(super) vectors: Vec<bf16>,
    /// Values of the matrices, as they are stored.
    pub(super) matrices: Vec<bf16>,
    /// The formats that these are stored in.
    pub(super) stored: String,
}

/// What tells whether two copies compute the same: the formats on the device, and a digest of some rows as they lie there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) formats: String,
    pub(super) digest: String,
}

impl Identity {
    /// Looks at a checkpoint.
    pub(super) fn of(checkpoint: &Checkpoint, tensors: &ModelTensors<'_>) -> Self {
        let mut stored: Vec<String> = tensors.matrices().map(Tensor::stored_as).collect();
        stored.sort_unstable();
        stored.dedup();
        let mut identity = Identity {
            // What ends a text, and whether a tied head is stored twice, is a choice of whoever publishes a copy.
            config: Config { eos: vec![], tied: false, ..checkpoint.config().clone() },
            vocabulary: vocabulary(checkpoint),
            vectors: vec![],
            matrices: vec![],
            stored: stored.join("+"),
        };
        let round = |to: &mut Vec<bf16>, values: Vec<f32>| to.extend(values.into_iter().map(bf16::from_f32));
        for layer in seen(&tensors.layers) {
            for tensor in layer.sampled_vectors() {
                round(&mut identity.vectors, values_of(tensor, 1));
            }
            for tensor in layer.sampled_matrices() {
                round(&mut identity.matrices, values_of(tensor, 1));
            }
        }
        round(&mut identity.vectors, values_of(&tensors.norm_f, 1));
        round(&mut identity.matrices, values_of(&tensors.embedding, TOKENS));
        identity
    }

    /// Whether the matrices are stored without scales: they are not rounded in blocks then, and two copies agree on them.
    fn plain(&self) -> bool {
        self.stored.split('+').all(|name| WeightFormat::parse(name).is_some_and(WeightFormat::is_plain))
    }

    /// How `other` is another model than this one; nothing if it is the same.
    pub(super) fn differences(&self, other: &Identity) -> Vec<String> {
        let shapes: Vec<String> = sizes(&self.config)
            .into_iter()
            .zip(sizes(&other.config))
            .filter(|((_, now), (_, was))| now != was)
            .map(|((name, now), (_, was))| format!("{name} is {was} there and {now} here"))
            .collect();
        if !shapes.is_empty() {
            return shapes;
        }
        if self.vocabulary.is_some() && other.vocabulary.is_some() && self.vocabulary != other.vocabulary {
            return vec!["the tokens stand for other texts".to_owned()];
        }
        let (a, b) = (&self.matrices, &other.matrices);
        let alike = match self.plain() && other.plain() {
            true if self.stored == other.stored => a == b,
            true => same(a, b),
            false => near(a, b),
        };
        if !alike || !same(&self.vectors, &other.vectors) {
            return vec!["the shapes are the same and the weights are others".to_owned()];
        }
        vec![]
    }
}

/// Everything that the shapes of tensors and the course of a step follow from, except the epsilon in the mixer: GGUF files do not
/// say it.
fn sizes(config: &Config) -> Vec<(&'static str, String)> {
    let mut sizes = vec![
        ("family", config.architecture.name().to_owned()),
        ("vocabulary", config.vocab.to_string()),
        ("hidden size", config.hidden.to_string()),
        ("number of layers", config.layers.to_string()),
        ("epsilon of norms", config.norm_eps.to_string()),
    ];
    sizes.extend(config.architecture.identity());
    sizes
}

impl Loaded {
    /// Of a checkpoint that is loaded by this recipe.
    pub(super) fn of(tensors: &ModelTensors<'_>, recipe: Recipe) -> Self {
        let mut digest = Sha256::new();
        let mut formats: Vec<WeightFormat> = vec![];
        let all = tensors.roles().count();
        let looked_at: Vec<usize> = spread(all, 4 * LAYERS).collect();
        for (i, (role, tensor)) in tensors.roles().enumerate() {
            let format = recipe.format(role, tensor.held_as(), tensor.columns());
            formats.push(format);
            if looked_at.binary_search(&i).is_err() {
                continue;
            }
            let mut blocks = vec![0; format.row_bytes(tensor.columns())];
            let row = tensor.rows() / 2;
            tensor.encode_rows(row..row + 1, format, &mut blocks);
            digest.update(format.name());
            digest.update(&blocks);
        }
        for layer in seen(&tensors.layers) {
            layer.plain_vectors().for_each(|tensor| update(&mut digest, &values_of(tensor, VALUES)));
            update(&mut digest, &layer.sampled_a());
        }
        update(&mut digest, &values_of(&tensors.norm_f, 1));
        let mut names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
        names.sort_unstable();
        names.dedup();
        Loaded { formats: names.join("+"), digest: hex(&digest.finalize()[..16]) }
    }
}

fn update(digest: &mut Sha256, values: &[f32]) {
    values.iter().for_each(|v| digest.update(v.to_le_bytes()));
}

/// The layers that are looked at.
fn seen<'a, 't>(layers: &'a [LayerTensors<'t>]) -> impl Iterator<Item = &'a LayerTensors<'t>> {
    spread(layers.len(), LAYERS).map(|i| &layers[i])
}

/// Up to `count` indices below `len`, the first and the last among them.
fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    (0..count).map(move |i| if count == 1 { len / 2 } else { i * (len - 1) / (count - 1) })
}

/// Some values of some rows.
fn values_of(tensor: &Tensor<'_>, rows: usize) -> Vec<f32> {
    let mut row = vec![0.0; tensor.columns()];
    let mut values = vec![];
    for at in spread(tensor.rows(), rows) {
        tensor.decode_rows(at..at + 1, &mut row);
        values.extend(spread(row.len(), VALUES).map(|column| row[column]));
    }
    values
}

/// Whether these are the same values, each rounded once or twice on its way to bf16: which of two neighbours it becomes may
/// differ, in few.
fn same(a: &[bf16], b: &[bf16]) -> bool {
    let apart = |(a, b): (&bf16, &bf16)| i32::from(ordered(*a)).abs_diff(i32::from(ordered(*b)));
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| apart(pair) <= 1)
        && a.iter().zip(b).filter(|pair| apart(*pair) > 0).count() * 4 <= a.len()
}

/// The place of a value among all values, so that neighbours are one apart.
fn ordered(value: bf16) -> i16 {
    let bits = value.to_bits() as i16;
    if bits < 0 { i16::MIN.wrapping_sub(bits) } else { bits }
}

/// Whether these can be the same values in formats of a few bits: 4 bits leave a cosine of 0.99 and more, other weights one
/// near 0.
fn near(a: &[bf16], b: &[bf16]) -> bool {
    let product = |a: &[bf16], b: &[bf16]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
    let (aa, ab, bb) = (product(a, a), product(a, b), product(b, b));
    a.len() == b.len() && (ab > 0.9 * (aa * bb).sqrt() || aa + bb == 0.0)
}

/// Digest of what every token stands for.
fn vocabulary(checkpoint: &Checkpoint) -> Option<String> {
    let tokenizer = checkpoint.tokenizer().ok()?;
    let mut digest = Sha256::new();
    for id in 0..u32::try_from(checkpoint.config().vocab).unwrap_or(u32::MAX) {
        match tokenizer.bytes(id) {
            Some(bytes) => {
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(bytes);
            }
            None => digest.update(u64::MAX.to_le_bytes()),
        }
    }
    Some(hex(&digest.finalize()[..16]))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes of an even number of lower-case digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}
