//! The library's error: one variant for each thing that a caller can act on.

use std::path::{Path, PathBuf};

/// Result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {doing} {}: {problem}", path.display())]
    Io {
        /// What was tried: "read", "write", "map".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        problem: std::io::Error,
    },
    /// A file of a model, or a saved state, is there and could not be read; or a state is not there.
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        problem: std::io::Error,
    },
    /// A file is of another kind than the one that was expected, such as a Git LFS pointer or a web page.
    #[error("{file} is {found}; {advice}")]
    WrongKind {
        /// The file.
        file: String,
        /// What it is.
        found: String,
        /// What to do about it.
        advice: String,
    },
    /// There is nothing at the path given for a model.
    #[error(
        "no model at {}: give a .gguf file, or the folder that holds config.json and the .safetensors files{}",
        path.display(), near.as_ref().map_or_else(String::new, |near| format!("; is it {}?", near.display()))
    )]
    ModelNotFound {
        /// The path given.
        path: PathBuf,
        /// What lies there and is called almost so.
        near: Option<PathBuf>,
    },
    /// A checkpoint folder lacks one of its parts.
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
    /// The folder has only a pickled checkpoint, which is code and is not run.
    #[error(
        "{} holds only pytorch_model.bin, a pickle, which peregrine does not open. Convert it once with:\n  \
         python3 -c \"import torch, safetensors.torch as s; d='{}/'; \
         w = torch.load(d + 'pytorch_model.bin', map_location='cpu', weights_only=True); \
         s.save_file({{k: v.clone().contiguous() for k, v in w.items()}}, d + 'model.safetensors')\"",
        dir.display(), dir.display()
    )]
    PickleOnly {
        /// The checkpoint folder.
        dir: PathBuf,
    },
    /// A JSON file does not parse or lacks what it must hold.
    #[error("{file}: {problem}")]
    BadJson {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// config.json describes something that cannot be.
    #[error("{file}: {problem}")]
    BadConfig {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The model, or a part of it, is of a kind that peregrine does not run.
    #[error("{file}: {what} is not supported; {hint}")]
    Unsupported {
        /// The file that asks for it.
        file: String,
        /// What is asked for.
        what: String,
        /// What is supported instead.
        hint: String,
    },
    /// A safetensors file is damaged or not one.
    #[error("{file} is not a sound safetensors file: {problem}; download it again")]
    BadSafetensors {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An output may not be written there, or cannot hold what it is to hold.
    #[error("cannot write {}: {problem}", path.display())]
    BadOutput {
        /// The output.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// A GGUF file is damaged, not one, or says what cannot be.
    #[error("{file} is not a GGUF file that can be read: {problem}")]
    BadGguf {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The index names a file outside of the checkpoint folder.
    #[error(
        "{index} names {shard:?}, which is not a plain file name inside the checkpoint folder; this file is not to be trusted"
    )]
    UnsafeShard {
        /// The index file.
        index: String,
        /// The name it gives.
        shard: String,
    },
    /// The config needs a tensor that no file holds.
    #[error("{file}: tensor {tensor} is missing; {hint}")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// Where it was looked for.
        file: String,
        /// What may be the reason.
        hint: String,
    },
    /// The files hold tensors that no part of the model reads: what they are for would be left out.
    #[error("{file}: no part of this model reads tensor {tensor}{}; {hint}", and_more(*more))]
    UnusedTensor {
        /// The first of them.
        tensor: String,
        /// Its file.
        file: String,
        /// How many there are besides.
        more: usize,
        /// What they are, as far as their names tell, and what to do.
        hint: String,
    },
    /// A tensor has another shape than the config says.
    #[error("{tensor}: {file} has {found:?}, {said_by} needs {wanted:?}; {}", of_another(said_by))]
    WrongShape {
        /// The tensor.
        tensor: String,
        /// Its file.
        file: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the config asks for.
        wanted: Vec<usize>,
        /// What the config is: "config.json", or "its metadata" for a GGUF file.
        said_by: &'static str,
    },
    /// A tensor's type is none that peregrine reads.
    #[error(
        "{tensor}: {file} stores it as {found}, which is not read; F32, F16 and BF16 are, and of GGUF Q8_0, Q2_K to Q6_K, \
         Q4_0 to Q5_1, IQ4_NL and IQ4_XS"
    )]
    WrongDtype {
        /// The tensor.
        tensor: String,
        /// Its file.
        file: String,
        /// The type in the file.
        found: String,
    },
    /// What belongs to a tensor of a quantized checkpoint is missing or does not fit it.
    #[error("{tensor}: {file}: {problem}; the checkpoint is damaged: download it again")]
    BadQuantization {
        /// The tensor.
        tensor: String,
        /// Its file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The tokenizer cannot be loaded or used.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A chat template does not parse or does not render.
    #[error("chat template of {file}: {problem}")]
    Template {
        /// The file it came from.
        file: String,
        /// The engine's message, with the line.
        problem: String,
    },
    /// No adapter can run compute shaders.
    #[error("no GPU adapter found: {why}")]
    NoAdapter {
        /// Why not, and what to do about it.
        why: String,
    },
    /// The adapter asked for is not there.
    #[error("no device {wanted:?}; there are: {}", have.join(", "))]
    UnknownDevice {
        /// The name or index given.
        wanted: String,
        /// The adapters at hand.
        have: Vec<String>,
    },
    /// An environment switch has a value that means nothing.
    #[error("{switch}={value:?}: {problem}")]
    BadSwitch {
        /// The environment variable.
        switch: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        problem: String,
    },
    /// The driver took the device away, or reset it. Open it again; what it held is gone.
    #[error("the GPU device was lost ({reason}); open it again and reload the model")]
    DeviceLost {
        /// The driver's reason.
        reason: String,
    },
    /// The GPU refused an operation.
    #[error("{what}: the GPU refused it: {problem}")]
    Gpu {
        /// The operation, with its label.
        what: String,
        /// The driver's or wgpu's message.
        problem: String,
    },
    /// The GPU has no room for a buffer.
    #[error("out of GPU memory at {what} ({bytes} bytes)")]
    OutOfMemory {
        /// The buffer's label.
        what: String,
        /// Its size.
        bytes: u64,
    },
    /// A model does not fit into the device's memory.
    #[error("the model takes {plan}, but {why}; {advice}")]
    DoesNotFit {
        /// Bytes that it takes.
        needed: u64,
        /// The same, by what they are for.
        plan: String,
        /// How much there is, or what there was no room for.
        why: String,
        /// What would fit.
        advice: String,
    },
    /// Work that was submitted did not finish.
    #[error("the GPU did not finish within {seconds} s; a smaller --chunk makes each piece of work shorter")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
    /// A kernel needs more workgroups in one dimension than the adapter runs.
    #[error("{what}: it takes {groups} workgroups, the adapter runs at most {limit} at a time; use another adapter")]
    TooManyGroups {
        /// The dispatch.
        what: String,
        /// Its workgroups.
        groups: u32,
        /// The adapter's limit.
        limit: u32,
    },
    /// One row of a tensor is larger than the adapter can bind.
    #[error("{what}: one row takes {bytes} bytes, the adapter binds at most {limit} at a time; use another adapter")]
    RowTooLarge {
        /// The tensor or activation.
        what: String,
        /// Bytes of a row.
        bytes: u64,
        /// The adapter's limit.
        limit: u64,
    },
    /// A token id that the model has no row for.
    #[error("token id {id} at position {at} is out of range: this model has ids 0 to {}", vocab - 1)]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Its place in the input.
        at: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The folder that `PEREGRINE_SHADERS` names, or a shader in it, cannot be read.
    #[error("PEREGRINE_SHADERS: cannot read {}: {problem}", path.display())]
    BadShaders {
        /// The folder or the file.
        path: PathBuf,
        /// The system's reason.
        problem: std::io::Error,
    },
    /// Nothing was given to run.
    #[error("no tokens to run: the prompt is empty")]
    NoTokens,
    /// A text is too short for a model to predict anything of it.
    #[error("the text has {tokens} tokens; it takes two at least, as nothing predicts the first")]
    TextTooShort {
        /// Its tokens.
        tokens: usize,
    },
    /// Two models whose predictions cannot be held against each other.
    #[error(
        "the model has {model} tokens and the reference {reference}: only models of one vocabulary can be compared"
    )]
    VocabulariesDiffer {
        /// Tokens of the model.
        model: usize,
        /// Tokens of the reference.
        reference: usize,
    },
    /// A setting lies outside of what it may be.
    #[error("{name} is {value}: {problem}")]
    BadSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        problem: &'static str,
    },
    /// The logits hold NaN or infinity, so that no token can be chosen.
    #[error(
        "the model's logits are not finite at position {position}: the weights are damaged or the driver computes wrongly"
    )]
    NotFinite {
        /// Tokens consumed when it happened.
        position: u64,
    },
    /// Every token is banned, so that none can be chosen.
    #[error("every token is banned at position {position}: relax the bias")]
    AllBanned {
        /// Tokens consumed when it happened.
        position: u64,
    },
    /// Somebody cancelled it.
    #[error("cancelled")]
    Cancelled,
    /// No answer was cut off that could go on.
    #[error("there is nothing to continue: the last answer came to its end")]
    NothingToResume,
    /// The state of an earlier moment is not there any more. What led to it can be read again.
    #[error(
        "the state of that moment is not kept any more ({why}); read its text again, or allow more memory for states"
    )]
    StateNotKept {
        /// What became of it.
        why: String,
    },
    /// No message could be taken back.
    #[error("there is nothing to undo: nothing was said yet")]
    NothingToUndo,
    /// A file is not one of a conversation's state.
    #[error(
        "{file} holds no state of a conversation: it was not written by --save-state or Snapshot::save, or another program has rewritten it"
    )]
    NotAState {
        /// The file.
        file: String,
    },
    /// A state is of a form that later versions of peregrine write.
    #[error("{file} holds a state of version {version}, and this program reads up to {known}: take a newer peregrine")]
    NewerState {
        /// The file.
        file: String,
        /// Its version.
        version: u64,
        /// The newest that is read.
        known: u64,
    },
    /// A state is not as it was written.
    #[error("the state in {file} is damaged: {problem}; copy the file again, or read the text again")]
    DamagedState {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A state is of another model than the one that is to go on with it.
    #[error("the state is of another model: {differences}; load the model that it was made with")]
    StateOfAnotherModel {
        /// What differs.
        differences: String,
    },
    /// A text is not UTF-8.
    #[error("{what} is not UTF-8 text: byte {at} does not belong to a character")]
    NotText {
        /// The text.
        what: String,
        /// The byte.
        at: u64,
    },
    /// All slots are in use.
    #[error("all {slots} slots are in use: drop a session, or open the engine with more slots")]
    NoFreeSlot {
        /// Slots of the engine.
        slots: usize,
    },
}

impl Error {
    /// The same once more, for each of those that an error of the device concerns.
    pub(crate) fn again(&self) -> Self {
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

fn of_another(said_by: &str) -> &'static str {
    if said_by == "config.json" { "is config.json of another model?" } else { "the file is damaged: download it again" }
}
