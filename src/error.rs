//! The library's error: one variant for each thing that a caller can act on.
//!
//! All variants, their messages and their fields are in this one file, so that the wording can be read and kept consistent
//! as a whole; that is why it is longer than others.

mod kind;

pub use kind::ErrorKind;
use std::path::{Path, PathBuf};

/// Result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed, where, and what to do about it.
///
/// ```no_run
/// # fn f(engine: &peregrine::Engine, mut session: peregrine::Session) -> peregrine::Result<()> {
/// use peregrine::{AnswerOptions, Error};
/// match session.send("Hello!", &AnswerOptions::default()) {
///     Err(Error::DeviceLost { .. }) => drop(engine.recover(&mut |_| {})?), // the session continues
///     Err(error) => eprintln!("{error}"), // names the file, the tensor or the setting, and what to do
///     Ok(answer) => answer.for_each(drop),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {doing} {}: {problem}", path.display())]
    Io {
        /// The operation: "read", "write", "map".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        problem: std::io::Error,
    },
    /// A model file or a saved state could not be read, or the state does not exist.
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        problem: std::io::Error,
    },
    /// A file has another format than expected: a Git LFS pointer or a web page, for example.
    #[error("{file} is {found}; {advice}")]
    WrongKind {
        /// The file.
        file: String,
        /// What the file is instead.
        found: String,
        /// What to do about it.
        advice: String,
    },
    /// The model path does not exist.
    #[error(
        "no model at {}: give a .gguf file, or the folder that holds config.json and the .safetensors files{}",
        path.display(), near.as_ref().map_or_else(String::new, |near| format!("; did you mean {}?", near.display()))
    )]
    ModelNotFound {
        /// The path given.
        path: PathBuf,
        /// An existing path with a similar name.
        near: Option<PathBuf>,
    },
    /// A checkpoint folder lacks a required file.
    #[error("{} has no {missing}: a checkpoint is a folder with config.json, tokenizer.json and .safetensors files", dir.display())]
    IncompleteCheckpoint {
        /// The checkpoint folder.
        dir: PathBuf,
        /// The file that is missing.
        missing: String,
    },
    /// A sharded model lacks one of its files.
    #[error("{} has no {missing}: the model has {shards} shards and needs all of them; download this one", dir.display())]
    MissingShard {
        /// The folder of the shards.
        dir: PathBuf,
        /// The file that is missing.
        missing: String,
        /// How many shards the model has.
        shards: u64,
    },
    /// The folder holds only a pickled checkpoint, which builds without the feature `pickle` do not load.
    #[error(
        "{} holds only pytorch_model.bin, a pickle, which this build of peregrine does not load. Convert it once with:\n  \
         python3 -c \"import torch, safetensors.torch as s; d='{}/'; \
         w = torch.load(d + 'pytorch_model.bin', map_location='cpu', weights_only=True); \
         s.save_file({{k: v.clone().contiguous() for k, v in w.items()}}, d + 'model.safetensors')\"",
        dir.display(), dir.display()
    )]
    PickleOnly {
        /// The checkpoint folder.
        dir: PathBuf,
    },
    /// A JSON file does not parse or lacks a required value.
    #[error("{file}: {problem}")]
    BadJson {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// config.json, or a GGUF file's metadata, has an impossible value.
    #[error("{file}: {problem}")]
    BadConfig {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model needs something that peregrine does not support.
    #[error("{file}: {what} is not supported; {hint}")]
    Unsupported {
        /// The file that requires it.
        file: String,
        /// What is required.
        what: String,
        /// What is supported instead.
        hint: String,
    },
    /// A safetensors file is damaged.
    #[error("{file} is not a valid safetensors file: {problem}; download it again")]
    BadSafetensors {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A PyTorch checkpoint is damaged, or is none of `torch.save`'s archives of tensors.
    #[error("{file} cannot be read as a PyTorch checkpoint: {problem}")]
    BadPickle {
        /// The file.
        file: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// An output must not be overwritten, or its format cannot hold the data.
    #[error("cannot write {}: {problem}", path.display())]
    BadOutput {
        /// The output path.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// A GGUF file is damaged or has an impossible value.
    #[error("{file} is not a valid GGUF file: {problem}")]
    BadGguf {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The index names a file outside of the checkpoint folder.
    #[error(
        "{index} names {shard:?}, which is not a plain file name inside the checkpoint folder; do not trust this checkpoint"
    )]
    UnsafeShard {
        /// The index file.
        index: String,
        /// The file that it names.
        shard: String,
    },
    /// No file of the checkpoint has a tensor that the config needs.
    #[error("{file}: tensor {tensor} is missing; {hint}")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// Where it was expected.
        file: String,
        /// The likely reason.
        hint: String,
    },
    /// The checkpoint has tensors that the model does not use, so its output would be wrong.
    #[error("{file}: this model does not use tensor {tensor}{}; {hint}", and_more(*more))]
    UnusedTensor {
        /// The first of them.
        tensor: String,
        /// Its file.
        file: String,
        /// How many others there are.
        more: usize,
        /// What their names suggest, and what to do.
        hint: String,
    },
    /// A tensor's shape differs from the one the config implies.
    #[error("{tensor}: {file} has {found:?}, {said_by} needs {wanted:?}; {}", shape_hint(said_by))]
    WrongShape {
        /// The tensor.
        tensor: String,
        /// Its file.
        file: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the config implies.
        wanted: Vec<usize>,
        /// The source of the config: "config.json", or "its metadata" for a GGUF file.
        said_by: &'static str,
    },
    /// A tensor has a data type that peregrine does not read.
    #[error(
        "{tensor}: {file} stores it as {found}, which is not supported; supported are F32, F16, BF16, and in GGUF files \
         Q8_0, Q2_K to Q6_K, Q4_0 to Q5_1, IQ4_NL and IQ4_XS"
    )]
    WrongDtype {
        /// The tensor.
        tensor: String,
        /// Its file.
        file: String,
        /// The type in the file.
        found: String,
    },
    /// A quantized tensor's scales or metadata are missing or inconsistent.
    #[error("{tensor}: {file}: {problem}; the checkpoint is damaged: download it again")]
    BadQuantization {
        /// The tensor.
        tensor: String,
        /// Its file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The tokenizer cannot be loaded, or refuses a text.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A chat template fails to parse or to render.
    #[error("chat template of {file}: {problem}")]
    Template {
        /// The template's file or name.
        file: String,
        /// The template engine's message, with the line.
        problem: String,
    },
    /// A picture cannot be read.
    #[error("{picture}: {problem}; {hint}")]
    BadPicture {
        /// Its file or name.
        picture: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// No usable GPU adapter.
    #[error("no GPU adapter found: {why}")]
    NoAdapter {
        /// The reason, and what to do about it.
        why: String,
    },
    /// The requested adapter does not exist.
    #[error("no device {wanted:?}; available: {}", have.join(", "))]
    UnknownDevice {
        /// The requested name or index.
        wanted: String,
        /// The available adapters.
        have: Vec<String>,
    },
    /// An environment variable has an invalid value.
    #[error("{switch}={value:?}: {problem}")]
    BadSwitch {
        /// The environment variable.
        switch: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        problem: String,
    },
    /// The driver reset or removed the device. Its buffers are gone; reopen the device.
    #[error("the GPU device was lost ({reason}); reopen it and reload the model")]
    DeviceLost {
        /// The driver's reason.
        reason: String,
    },
    /// A GPU operation failed.
    #[error("{what}: the GPU rejected it: {problem}")]
    Gpu {
        /// The operation, with its label.
        what: String,
        /// The driver's or wgpu's message.
        problem: String,
    },
    /// The GPU has no memory left for a buffer.
    #[error("out of GPU memory allocating {what} ({bytes} bytes)")]
    OutOfMemory {
        /// The buffer's label.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// The model does not fit into device memory.
    #[error("the model needs {plan}, but {why}; {advice}")]
    DoesNotFit {
        /// Bytes that the model needs.
        needed: u64,
        /// The same bytes by use: weights, states, activations.
        plan: String,
        /// How much memory is available, or which allocation failed.
        why: String,
        /// What would fit.
        advice: String,
    },
    /// Submitted work did not finish in time.
    #[error("the GPU did not finish within {seconds} s; a smaller --chunk makes each submission shorter")]
    Timeout {
        /// The time limit.
        seconds: u64,
    },
    /// A dispatch has more workgroups in one dimension than the adapter allows.
    #[error("{what}: needs {groups} workgroups, this adapter allows {limit} per dimension; use another adapter")]
    TooManyGroups {
        /// The dispatch.
        what: String,
        /// Its workgroup count.
        groups: u32,
        /// The adapter's limit.
        limit: u32,
    },
    /// One row of a tensor exceeds the adapter's binding size limit.
    #[error("{what}: one row takes {bytes} bytes, this adapter binds at most {limit}; use another adapter")]
    RowTooLarge {
        /// The tensor or activation.
        what: String,
        /// Bytes of a row.
        bytes: u64,
        /// The adapter's limit.
        limit: u64,
    },
    /// Attention that stores its scores cannot run with so many tokens on this adapter.
    #[error(
        "attention scores of {tokens} tokens take {bytes} bytes a head, and this adapter binds at most {limit}: use tiled attention, or smaller pictures"
    )]
    ScoresTooLarge {
        /// Tokens of a picture.
        tokens: usize,
        /// Bytes of the scores of a head.
        bytes: u64,
        /// The adapter's limit.
        limit: u64,
    },
    /// A token id is outside the vocabulary.
    #[error("token id {id} at position {at} is out of range: this model has ids 0 to {}", vocab - 1)]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Its index in the input.
        at: usize,
        /// Rows of the embedding table.
        vocab: usize,
    },
    /// The folder that `PEREGRINE_SHADERS` names, or a shader in it, cannot be read.
    #[error("PEREGRINE_SHADERS: cannot read {}: {problem}", path.display())]
    BadShaders {
        /// The folder or the file.
        path: PathBuf,
        /// The operating system's error.
        problem: std::io::Error,
    },
    /// The prompt has no tokens.
    #[error("no tokens to run: the prompt is empty")]
    NoTokens,
    /// A text is too short to score.
    #[error("the text has {tokens} tokens; scoring needs at least two, since nothing predicts the first")]
    TextTooShort {
        /// Its tokens.
        tokens: usize,
    },
    /// Two models cannot be compared because their vocabularies differ.
    #[error(
        "the model has {model} tokens and the reference {reference}: only models with the same vocabulary can be compared"
    )]
    VocabulariesDiffer {
        /// Vocabulary size of the model.
        model: usize,
        /// Vocabulary size of the reference.
        reference: usize,
    },
    /// A setting is out of range.
    #[error("{name} is {value}: {problem}")]
    BadSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        problem: &'static str,
    },
    /// A constraint on answers cannot be used, or an answer under it cannot go on.
    #[error("{constraint}: {problem}")]
    BadConstraint {
        /// What it is, such as "the JSON schema".
        constraint: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The logits contain NaN or infinity, so no token can be sampled.
    #[error(
        "the model's logits are not finite at position {position}: the weights are damaged or the driver computes wrongly"
    )]
    NotFinite {
        /// Tokens consumed when it happened.
        position: u64,
    },
    /// The logit bias, together with the answer's grammar, bans every token, so none can be sampled.
    #[error("every token is banned at position {position}: relax the logit bias")]
    AllBanned {
        /// Tokens consumed when it happened.
        position: u64,
    },
    /// The call was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// There is no unfinished answer to continue.
    #[error("nothing to continue: the last answer is complete")]
    NothingToResume,
    /// The state of an earlier moment was dropped. Reading its text again restores it.
    #[error("the state of that moment was dropped ({why}); read its text again, or allow more memory for states")]
    StateNotKept {
        /// Why it was dropped.
        why: String,
    },
    /// There is no message to undo.
    #[error("nothing to undo: the conversation has no messages")]
    NothingToUndo,
    /// A file is not a saved conversation state.
    #[error(
        "{file} is not a saved state: --save-state or Snapshot::save did not write it, or another program rewrote it"
    )]
    NotAState {
        /// The file.
        file: String,
    },
    /// A saved state has a format version that only a newer peregrine reads.
    #[error("{file} has state format version {version}, and this program reads up to {known}: use a newer peregrine")]
    NewerState {
        /// The file.
        file: String,
        /// Its version.
        version: u64,
        /// The newest supported version.
        known: u64,
    },
    /// A saved state is damaged.
    #[error("the state in {file} is damaged: {problem}; copy the file again, or read the text again")]
    DamagedState {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A state was saved by another model.
    #[error("the state belongs to another model: {differences}; load the model that saved it")]
    StateOfAnotherModel {
        /// What differs.
        differences: String,
    },
    /// A text does not name a model of the hub.
    #[error("{name:?} is not a model's name: {problem}")]
    BadModelName {
        /// The text.
        name: String,
        /// What is wrong with it, and how names look.
        problem: String,
    },
    /// The hub cannot be reached, or cuts every connection.
    #[error("cannot fetch {what} from {url}: {problem}; {advice}")]
    HubUnreachable {
        /// What was asked for.
        what: String,
        /// The server.
        url: String,
        /// What failed.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// The hub refuses access to a repository: it is private or gated, or the token is wrong.
    #[error("no access to {repo} on {endpoint}: {problem}; {advice}")]
    NoHubAccess {
        /// The repository.
        repo: String,
        /// The hub.
        endpoint: String,
        /// Why.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// The hub has no such repository, revision or file.
    #[error("{endpoint} has no {what}; {advice}")]
    NotOnHub {
        /// What was asked for.
        what: String,
        /// The hub.
        endpoint: String,
        /// What to do.
        advice: String,
    },
    /// A repository has none of the files that were asked for, or several.
    #[error("{repo}: {problem}")]
    NoSuchModel {
        /// The repository.
        repo: String,
        /// What it lacks, what it has, and what to do.
        problem: String,
    },
    /// The hub answered something else than its protocol says.
    #[error("{url} answered the request for {what} with {found}; {advice}")]
    BadHubAnswer {
        /// What was asked for.
        what: String,
        /// The server.
        url: String,
        /// What it answered.
        found: String,
        /// What to do.
        advice: String,
    },
    /// A model is not in the cache, and the network must not be used.
    #[error("{what} is not in the cache {}: {advice}", cache.display())]
    NotInCache {
        /// What was asked for.
        what: String,
        /// The cache folder.
        cache: PathBuf,
        /// What to do.
        advice: String,
    },
    /// A downloaded file is not the one that the hub announced.
    #[error(
        "{what} from {url} is damaged: its SHA-256 is {found}, and the hub announced {wanted}; it was deleted: run the command \
         again, and if that does not help, look for a proxy that changes files"
    )]
    DamagedDownload {
        /// The file.
        what: String,
        /// The server.
        url: String,
        /// The hash that it has.
        found: String,
        /// The hash that it must have.
        wanted: String,
    },
    /// The disk has no space left for a download.
    #[error(
        "no space for {what} in {}: {problem}; free some space, or set HF_HUB_CACHE to a folder on another disk. What is there \
         already is kept", dir.display()
    )]
    NoSpace {
        /// The file or model.
        what: String,
        /// The cache folder.
        dir: PathBuf,
        /// How much is needed, and how much is free.
        problem: String,
    },
    /// A text is not UTF-8.
    #[error("{what} is not UTF-8 text: invalid byte at offset {at}")]
    NotText {
        /// The name of the text.
        what: String,
        /// Offset of the first invalid byte.
        at: u64,
    },
    /// All slots are in use.
    #[error("all {slots} slots are in use: drop a session, or load the engine with more slots")]
    NoFreeSlot {
        /// The engine's slot count.
        slots: usize,
    },
}

impl Error {
    /// A copy of a device error, for each slot whose step failed with it.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Error::DeviceLost { reason } => Error::DeviceLost { reason: reason.clone() },
            Error::OutOfMemory { what, bytes } => Error::OutOfMemory { what: what.clone(), bytes: *bytes },
            Error::Timeout { seconds } => Error::Timeout { seconds: *seconds },
            Error::Gpu { what, problem } => Error::Gpu { what: what.clone(), problem: problem.clone() },
            other => Error::Gpu { what: "a step".to_owned(), problem: other.to_string() },
        }
    }

    /// An [`Error::Io`] for `path`.
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>, problem: std::io::Error) -> Self {
        Error::Io { doing, path: path.as_ref().to_owned(), problem }
    }

    /// An [`Error::Unreadable`] for `path`.
    pub(crate) fn unreadable(path: impl AsRef<Path>, problem: std::io::Error) -> Self {
        Error::Unreadable { path: path.as_ref().to_owned(), problem }
    }
}

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    }
}

fn shape_hint(said_by: &str) -> &'static str {
    match said_by {
        "config.json" => "is config.json from another model?",
        _ => "the file is damaged: download it again",
    }
}
