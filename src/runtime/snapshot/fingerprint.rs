//! The identity of a state's model: the same for every copy of the model, whatever the format of its weights.

use crate::format::{Tensor, WeightFormat};
use crate::model::{Config, LayerTensors, ModelTensors, Recipe};
use crate::runtime::checkpoint::Checkpoint;
use half::bf16;
use sha2::{Digest, Sha256};

/// Upper limit on sampled layers: the first, the last and some in between.
const LAYERS: usize = 16;
/// Values sampled from a vector or from a row of a matrix.
const VALUES: usize = 12;
/// Rows sampled from the table of embeddings.
const TOKENS: usize = 4;

/// A model's identity: its config, its vocabulary, and a few thousand of its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub(super) config: Config,
    /// Digest of all tokens' bytes, if there is a tokenizer.
    pub(super) vocabulary: Option<String>,
    /// Sampled values of vectors, which every format stores without loss, rounded to bf16, as some checkpoints store them.
    pub(super) vectors: Vec<bf16>,
    /// Sampled values of matrices, as stored.
    pub(super) matrices: Vec<bf16>,
    /// The formats of the stored matrices.
    pub(super) stored: String,
}

/// Tells whether two copies compute the same bits: the formats on the device, and a digest of sampled rows in these formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) formats: String,
    pub(super) digest: String,
}

impl Identity {
    /// The identity of a checkpoint.
    pub(super) fn of(checkpoint: &Checkpoint, tensors: &ModelTensors<'_>) -> Self {
        let mut stored: Vec<String> = tensors.matrices().map(Tensor::stored_as).collect();
        stored.sort_unstable();
        stored.dedup();
        let mut identity = Identity {
            // EOS tokens, and whether a tied head is stored twice, vary between published copies.
            config: Config { eos: vec![], tied: false, ..checkpoint.config().clone() },
            vocabulary: vocabulary(checkpoint),
            vectors: vec![],
            matrices: vec![],
            stored: stored.join("+"),
        };
        let round = |to: &mut Vec<bf16>, values: Vec<f32>| to.extend(values.into_iter().map(bf16::from_f32));
        for layer in sampled(&tensors.layers) {
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

    /// Whether all matrices are stored as plain floats, so that no blocks were rounded and two copies agree on them.
    fn plain(&self) -> bool {
        self.stored.split('+').all(|name| WeightFormat::parse(name).is_some_and(WeightFormat::is_plain))
    }

    /// How `other` differs from this model; empty if it is the same.
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
            return vec!["the vocabularies differ".to_owned()];
        }
        let (a, b) = (&self.matrices, &other.matrices);
        let alike = match self.plain() && other.plain() {
            true if self.stored == other.stored => a == b,
            true => same(a, b),
            false => near(a, b),
        };
        if !alike || !same(&self.vectors, &other.vectors) {
            return vec!["the shapes are the same but the weights differ".to_owned()];
        }
        vec![]
    }
}

/// All sizes and constants that determine the shapes of tensors and the computation of a step, except the epsilon in the mixer:
/// GGUF files lack it.
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
    /// For a checkpoint that is loaded with this recipe.
    pub(super) fn of(tensors: &ModelTensors<'_>, recipe: Recipe) -> Self {
        let mut digest = Sha256::new();
        let mut formats: Vec<WeightFormat> = vec![];
        let all = tensors.roles().count();
        let sampled_at: Vec<usize> = spread(all, 4 * LAYERS).collect();
        for (i, (role, tensor)) in tensors.roles().enumerate() {
            let format = recipe.format(role, tensor.held_as(), tensor.columns());
            formats.push(format);
            if sampled_at.binary_search(&i).is_err() {
                continue;
            }
            let mut blocks = vec![0; format.row_bytes(tensor.columns())];
            let row = tensor.rows() / 2;
            tensor.encode_rows(row..row + 1, format, &mut blocks);
            digest.update(format.name());
            digest.update(&blocks);
        }
        for layer in sampled(&tensors.layers) {
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

/// The sampled layers.
fn sampled<'a, 't>(layers: &'a [LayerTensors<'t>]) -> impl Iterator<Item = &'a LayerTensors<'t>> {
    spread(layers.len(), LAYERS).map(|i| &layers[i])
}

/// Up to `count` indices below `len`, evenly spread, including the first and the last.
fn spread(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(len);
    (0..count).map(move |i| if count == 1 { len / 2 } else { i * (len - 1) / (count - 1) })
}

/// Sampled values of `rows` sampled rows.
fn values_of(tensor: &Tensor<'_>, rows: usize) -> Vec<f32> {
    let mut row = vec![0.0; tensor.columns()];
    let mut values = vec![];
    for at in spread(tensor.rows(), rows) {
        tensor.decode_rows(at..at + 1, &mut row);
        values.extend(spread(row.len(), VALUES).map(|column| row[column]));
    }
    values
}

/// Whether these are the same values, rounded once or twice on their way to bf16: a few may be off by one unit in the last place.
fn same(a: &[bf16], b: &[bf16]) -> bool {
    let apart = |(a, b): (&bf16, &bf16)| i32::from(ordered(*a)).abs_diff(i32::from(ordered(*b)));
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| apart(pair) <= 1)
        && a.iter().zip(b).filter(|pair| apart(*pair) > 0).count() * 4 <= a.len()
}

/// Maps bf16 to integers in order, so that neighbors differ by one.
fn ordered(value: bf16) -> i16 {
    let bits = value.to_bits() as i16;
    if bits < 0 { i16::MIN.wrapping_sub(bits) } else { bits }
}

/// Whether these can be the same values in formats of a few bits: with 4 bits the cosine similarity is 0.99 or more, with other
/// weights it is near 0.
fn near(a: &[bf16], b: &[bf16]) -> bool {
    let product = |a: &[bf16], b: &[bf16]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
    let (aa, ab, bb) = (product(a, a), product(a, b), product(b, b));
    a.len() == b.len() && (ab > 0.9 * (aa * bb).sqrt() || aa + bb == 0.0)
}

/// Digest of every token's bytes.
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

/// Decodes an even number of lower-case hexadecimal digits.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}
