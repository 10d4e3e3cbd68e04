//! Options of engines, sampling and answers.

use crate::boundary::Failure;
use crate::pointers::{optional_text, text, values};
use crate::structs::{self, Growing};
use peregrine::runtime::{Embeddings, Math, Recipe, WeightFormat};
use peregrine::{AdapterChoice, AnswerOptions, Constraint, Engine, EngineOptions, Sampling};
use std::ffi::c_char;
use std::mem::offset_of;
use std::path::PathBuf;

/// How products are computed: in f32.
pub const PEREGRINE_MATH_EXACT: u32 = 0;
/// How products are computed: with activations rounded to int8 or f16, where that is faster. Answers differ.
pub const PEREGRINE_MATH_FAST: u32 = 1;

/// How a model is loaded. Set `size` to `sizeof(peregrine_engine_options)`; 0 or NULL in any other field is its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peregrine_engine_options {
    /// `sizeof(peregrine_engine_options)`.
    pub size: usize,
    /// The device: an index in the order of `peregrine_adapters`, or a part of its name. Default: the environment variable
    /// PEREGRINE_ADAPTER, else the first adapter.
    pub device: *const c_char,
    /// The format that matrices get while they are loaded, such as "q4_K". Default: as stored.
    pub weights: *const c_char,
    /// A folder, made if it is missing, in which compiled kernels are kept for the next start; if that fails, the next start is slower.
    /// Only the user may be able to write to it. Default: none.
    pub cache: *const c_char,
    /// How many sessions there can be at a time. Default: 1.
    pub slots: usize,
    /// Most tokens of a prompt that are read in one step. Default: what suits the device.
    pub chunk: usize,
    /// Most bytes of device memory that the model may take. Default: what is free.
    pub memory: u64,
    /// `PEREGRINE_MATH_EXACT` or `PEREGRINE_MATH_FAST`.
    pub math: u32,
    /// 1: the table of embeddings stays on the host, which saves device memory and costs speed.
    pub host_embeddings: u32,
}

// SAFETY: its fields are integers and pointers, without padding on machines of 64 bits, and zero is valid for all.
unsafe impl Growing for peregrine_engine_options {
    const NAME: &'static str = "peregrine_engine_options";
    const FIRST: usize = offset_of!(Self, host_embeddings) + size_of::<u32>();
}

/// How the next token is chosen. Set `size` to `sizeof(peregrine_sampling)`; 0 in any other field is its default. All defaults together
/// always choose the most probable token.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peregrine_sampling {
    /// `sizeof(peregrine_sampling)`.
    pub size: usize,
    /// Seed of the draws: each depends on the seed and the position alone.
    pub seed: u64,
    /// Divides the logits. Default: 0, the most probable token.
    pub temperature: f32,
    /// Keeps the most probable tokens until their sum reaches this. Default: 1, all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as probable as the best. Default: 0, all.
    pub min_p: f32,
    /// Divides the positive logits of recent tokens and multiplies the negative ones. Default: 1, which does nothing.
    pub repeat_penalty: f32,
    /// Subtracted from the logit of each recent token. Default: 0.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token once for each occurrence. Default: 0.
    pub frequency_penalty: f32,
    /// Keeps this many of the most probable tokens. Default: 0, all.
    pub top_k: u32,
    /// How many of the last tokens penalties look at: at most 4096. Default: 64.
    pub repeat_last_n: u32,
    /// Added to the logits of tokens; -INFINITY bans one.
    pub biases: *const peregrine_bias,
    /// How many `biases` there are.
    pub bias_count: usize,
}

// SAFETY: its fields are integers, floats and a pointer, without padding on machines of 64 bits, and zero is valid for all.
unsafe impl Growing for peregrine_sampling {
    const NAME: &'static str = "peregrine_sampling";
    const FIRST: usize = offset_of!(Self, bias_count) + size_of::<usize>();
}

/// A number added to the logit of a token.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peregrine_bias {
    /// The id of the token.
    pub token: u32,
    /// The number.
    pub bias: f32,
}

/// Length, end and form of an answer. Set `size` to `sizeof(peregrine_answer_options)`; 0 or NULL in any other field is its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peregrine_answer_options {
    /// `sizeof(peregrine_answer_options)`.
    pub size: usize,
    /// Most tokens. Default: until the model ends its answer.
    pub max_tokens: usize,
    /// Texts that end the answer and are not part of it.
    pub stops: *const *const c_char,
    /// How many `stops` there are.
    pub stop_count: usize,
    /// A JSON schema that the whole answer must satisfy. Of the three forms at most one may be given. Default: none.
    pub json_schema: *const c_char,
    /// A regular expression that the whole answer must match. Default: none.
    pub regex: *const c_char,
    /// A grammar that the whole answer must follow, in llguidance's form of Lark. Default: none.
    pub grammar: *const c_char,
}

// SAFETY: its fields are integers and pointers, and zero is valid for all.
unsafe impl Growing for peregrine_answer_options {
    const NAME: &'static str = "peregrine_answer_options";
    const FIRST: usize = offset_of!(Self, grammar) + size_of::<*const c_char>();
}

/// The options of loading, as Rust has them.
pub(crate) struct Loading {
    pub(crate) adapter: AdapterChoice,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) engine: EngineOptions,
}

/// # Safety
/// It is null or points to options with their size.
pub(crate) unsafe fn loading(options: *const peregrine_engine_options) -> Result<Loading, Failure> {
    // SAFETY: as the caller promises.
    let given = unsafe { structs::read(options) }?;
    // SAFETY: pointers in a struct are null or texts.
    let [device, weights, cache] = unsafe {
        [
            optional_text(given.device, "device")?,
            optional_text(given.weights, "weights")?,
            optional_text(given.cache, "cache")?,
        ]
    };
    let mut engine = EngineOptions::default().slots(given.slots.max(1)).chunk(given.chunk);
    engine.memory = (given.memory > 0).then_some(given.memory);
    engine.math = match given.math {
        PEREGRINE_MATH_EXACT => Math::Exact,
        PEREGRINE_MATH_FAST => Math::Fast,
        other => return Err(Failure::Argument(format!("math is {other}: it must be 0 (exact) or 1 (fast)"))),
    };
    engine.embeddings = match given.host_embeddings {
        0 => Embeddings::Device,
        1 => Embeddings::Host,
        other => return Err(Failure::Argument(format!("host_embeddings is {other}: it must be 0 or 1"))),
    };
    if let Some(name) = weights {
        let names = WeightFormat::ALL.map(WeightFormat::name).join(", ");
        let format = WeightFormat::parse(&name);
        let format = format.ok_or_else(|| Failure::Argument(format!("weights is {name:?}: there are {names}")))?;
        engine.weights = Recipe::To(format);
    }
    let adapter = device.map_or(AdapterChoice::Best, |device| AdapterChoice::parse(&device));
    Ok(Loading { adapter, cache: cache.map(PathBuf::from), engine })
}

/// # Safety
/// It is null or points to sampling parameters with their size.
pub(crate) unsafe fn sampling(sampling: *const peregrine_sampling) -> Result<Sampling, Failure> {
    // SAFETY: as the caller promises; a count in a struct is that of its values.
    let (given, biases) = unsafe {
        let given = structs::read(sampling)?;
        (given, values(given.biases, given.bias_count, "biases")?)
    };
    let or = |value: f32, default: f32| if value == 0.0 { default } else { value };
    let repeat_last_n =
        if given.repeat_last_n == 0 { Sampling::GREEDY.repeat_last_n } else { given.repeat_last_n as usize };
    Ok(Sampling::GREEDY
        .seed(given.seed)
        .temperature(given.temperature)
        .top_k(given.top_k)
        .top_p(or(given.top_p, 1.0))
        .min_p(given.min_p)
        .repeat_penalty(or(given.repeat_penalty, 1.0))
        .presence_penalty(given.presence_penalty)
        .frequency_penalty(given.frequency_penalty)
        .repeat_last_n(repeat_last_n)
        .logit_bias(biases.iter().map(|bias| (bias.token, bias.bias)).collect()))
}

/// Sampling parameters as C has them, without biases.
pub(crate) fn sampling_of(sampling: &Sampling) -> peregrine_sampling {
    peregrine_sampling {
        size: size_of::<peregrine_sampling>(),
        seed: sampling.seed,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repeat_penalty: sampling.repeat_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        top_k: sampling.top_k,
        repeat_last_n: u32::try_from(sampling.repeat_last_n).unwrap_or(u32::MAX),
        biases: std::ptr::null(),
        bias_count: 0,
    }
}

/// The options of an answer of this engine.
///
/// # Safety
/// It is null or points to options with their size.
pub(crate) unsafe fn answer(
    options: *const peregrine_answer_options,
    engine: &Engine,
) -> Result<AnswerOptions, Failure> {
    // SAFETY: as the caller promises; a count in a struct is that of its values, which are texts.
    let (given, stops) = unsafe {
        let given = structs::read(options)?;
        let stops = values(given.stops, given.stop_count, "stops")?;
        (given, stops.iter().map(|stop| text(*stop, "a stop text")).collect::<Result<Vec<_>, _>>()?)
    };
    // SAFETY: pointers in a struct are null or texts.
    let [schema, regex, grammar] = unsafe {
        [
            optional_text(given.json_schema, "json_schema")?,
            optional_text(given.regex, "regex")?,
            optional_text(given.grammar, "grammar")?,
        ]
    };
    let constraint = match (schema, regex, grammar) {
        (None, None, None) => None,
        (Some(schema), None, None) => {
            let schema = schema.parse().map_err(|e| Failure::Argument(format!("json_schema is not JSON: {e}")))?;
            Some(Constraint::JsonSchema(schema))
        }
        (None, Some(regex), None) => Some(Constraint::Regex(regex)),
        (None, None, Some(grammar)) => Some(Constraint::Lark(grammar)),
        _ => return Err(Failure::Argument("json_schema, regex and grammar exclude each other".to_owned())),
    };
    let grammar = constraint.map(|constraint| engine.checkpoint().grammar(&constraint)).transpose()?;
    let most = (given.max_tokens > 0).then_some(given.max_tokens);
    Ok(AnswerOptions::default().max_tokens(most).stop(stops).grammar(grammar))
}
