//! What a caller can do about an error. Exit codes, C's statuses and Python's exceptions are made of these groups; Node's codes are
//! their names.

use super::Error;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read or written: its path, its rights or its disk.
    File,
    /// The model does not exist, or lacks a file.
    ModelNotFound,
    /// The model is damaged, contradicts itself, or needs something that is not supported.
    ModelUnusable,
    /// The hub does not have the model, or not for this user; or its cache does not.
    ModelNotOnHub,
    /// The hub could not be asked.
    HubFailed,
    /// A setting or an argument is out of range.
    BadSetting,
    /// The text or the tokens are nothing that a model can continue.
    BadInput,
    /// A picture cannot be decoded.
    BadPicture,
    /// The texts or models of a measurement do not fit together.
    BadEvaluation,
    /// There is no usable adapter, or none that was asked for.
    NoDevice,
    /// The device has not enough memory.
    OutOfMemory,
    /// The device was lost: [`Engine::recover`](crate::Engine::recover), and sessions continue.
    DeviceLost,
    /// The device refused an operation, did not finish in time, or computed wrongly.
    DeviceFailed,
    /// All slots of the engine are in use.
    NoFreeSlot,
    /// The call was cancelled.
    Cancelled,
    /// The conversation has no message to take back.
    NothingToUndo,
    /// The last answer is complete.
    NothingToResume,
    /// The state of that moment was dropped, to keep within the memory for states.
    StateNotKept,
    /// The bytes are no saved state, or a damaged one.
    StateDamaged,
    /// The state was saved by a newer version.
    StateTooNew,
    /// The state belongs to another model.
    StateOfAnotherModel,
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        // Without a wildcard: each new variant is to be thought about here.
        match self {
            Error::Io { .. } | Error::Unreadable { .. } | Error::BadOutput { .. } | Error::NoSpace { .. } => {
                ErrorKind::File
            }
            Error::ModelNotFound { .. } | Error::IncompleteCheckpoint { .. } | Error::MissingShard { .. } => {
                ErrorKind::ModelNotFound
            }
            Error::WrongKind { .. }
            | Error::PickleOnly { .. }
            | Error::BadJson { .. }
            | Error::BadConfig { .. }
            | Error::Unsupported { .. }
            | Error::BadSafetensors { .. }
            | Error::BadPickle { .. }
            | Error::BadGguf { .. }
            | Error::UnsafeShard { .. }
            | Error::MissingTensor { .. }
            | Error::UnusedTensor { .. }
            | Error::WrongShape { .. }
            | Error::WrongDtype { .. }
            | Error::BadQuantization { .. }
            | Error::Tokenizer { .. }
            | Error::Template { .. } => ErrorKind::ModelUnusable,
            Error::NoHubAccess { .. }
            | Error::NotOnHub { .. }
            | Error::NoSuchModel { .. }
            | Error::NotInCache { .. }
            | Error::DamagedDownload { .. } => ErrorKind::ModelNotOnHub,
            Error::HubUnreachable { .. } | Error::BadHubAnswer { .. } => ErrorKind::HubFailed,
            Error::BadSetting { .. }
            | Error::BadSwitch { .. }
            | Error::BadShaders { .. }
            | Error::BadConstraint { .. }
            | Error::BadModelName { .. }
            | Error::IdOutOfRange { .. } => ErrorKind::BadSetting,
            Error::NoTokens | Error::AllBanned { .. } | Error::NotText { .. } => ErrorKind::BadInput,
            Error::BadPicture { .. } => ErrorKind::BadPicture,
            Error::TextTooShort { .. } | Error::VocabulariesDiffer { .. } => ErrorKind::BadEvaluation,
            Error::NoAdapter { .. } | Error::UnknownDevice { .. } => ErrorKind::NoDevice,
            Error::OutOfMemory { .. } | Error::DoesNotFit { .. } => ErrorKind::OutOfMemory,
            Error::DeviceLost { .. } => ErrorKind::DeviceLost,
            Error::Gpu { .. }
            | Error::Timeout { .. }
            | Error::TooManyGroups { .. }
            | Error::RowTooLarge { .. }
            | Error::ScoresTooLarge { .. }
            | Error::NotFinite { .. } => ErrorKind::DeviceFailed,
            Error::NoFreeSlot { .. } => ErrorKind::NoFreeSlot,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::NothingToUndo => ErrorKind::NothingToUndo,
            Error::NothingToResume => ErrorKind::NothingToResume,
            Error::StateNotKept { .. } => ErrorKind::StateNotKept,
            Error::NotAState { .. } | Error::DamagedState { .. } => ErrorKind::StateDamaged,
            Error::NewerState { .. } => ErrorKind::StateTooNew,
            Error::StateOfAnotherModel { .. } => ErrorKind::StateOfAnotherModel,
        }
    }
}
