//! Outcomes of calls.

use peregrine::{Error, ErrorKind};

/// Outcome of a call. The numbers are stable; newer libraries may add some. `peregrine_last_error` has the text.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum peregrine_status {
    /// It worked.
    PEREGRINE_OK = 0,
    /// It failed for a reason that has no number of its own.
    PEREGRINE_FAILED = 1,
    /// An argument or an option is invalid: a null pointer, a text that is not UTF-8, a number out of range.
    PEREGRINE_INVALID_ARGUMENT = 2,
    /// Another call on this session has not ended. Nothing was done.
    PEREGRINE_BUSY = 3,
    /// A bug in peregrine, which it survived. The session of the call can only be freed.
    PEREGRINE_INTERNAL = 4,
    /// The model does not exist, or lacks a file.
    PEREGRINE_MODEL_NOT_FOUND = 10,
    /// The model is damaged, contradicts itself, or needs something that peregrine does not support.
    PEREGRINE_MODEL_UNUSABLE = 11,
    /// A file could not be read or written.
    PEREGRINE_IO = 12,
    /// There is no usable GPU, or none that was asked for.
    PEREGRINE_NO_DEVICE = 20,
    /// The device has not enough memory for the model.
    PEREGRINE_OUT_OF_MEMORY = 21,
    /// The device was lost: call `peregrine_engine_recover`, and the sessions continue.
    PEREGRINE_DEVICE_LOST = 22,
    /// The device refused an operation, did not finish in time, or computed wrongly.
    PEREGRINE_DEVICE_FAILED = 23,
    /// All slots of the engine are in use: free a session, or load the engine with more slots.
    PEREGRINE_NO_FREE_SLOT = 30,
    /// The call was cancelled.
    PEREGRINE_CANCELLED = 31,
    /// The conversation has no message to undo.
    PEREGRINE_NOTHING_TO_UNDO = 32,
    /// The last answer is complete: there is nothing to resume.
    PEREGRINE_NOTHING_TO_RESUME = 33,
    /// The state of that moment was dropped, to keep within the memory for states.
    PEREGRINE_STATE_NOT_KEPT = 34,
    /// The bytes are no saved state, or a damaged one.
    PEREGRINE_STATE_DAMAGED = 40,
    /// The state was saved by a newer peregrine.
    PEREGRINE_STATE_TOO_NEW = 41,
    /// The state belongs to another model.
    PEREGRINE_STATE_OF_ANOTHER_MODEL = 42,
}

use peregrine_status::*;

impl From<&Error> for peregrine_status {
    fn from(error: &Error) -> Self {
        if let Error::BadOutput { .. } = error {
            return PEREGRINE_INVALID_ARGUMENT;
        }
        match error.kind() {
            ErrorKind::BadSetting | ErrorKind::BadInput => PEREGRINE_INVALID_ARGUMENT,
            ErrorKind::ModelNotFound => PEREGRINE_MODEL_NOT_FOUND,
            ErrorKind::ModelUnusable => PEREGRINE_MODEL_UNUSABLE,
            ErrorKind::File => PEREGRINE_IO,
            ErrorKind::NoDevice => PEREGRINE_NO_DEVICE,
            ErrorKind::OutOfMemory => PEREGRINE_OUT_OF_MEMORY,
            ErrorKind::DeviceLost => PEREGRINE_DEVICE_LOST,
            ErrorKind::DeviceFailed => PEREGRINE_DEVICE_FAILED,
            ErrorKind::NoFreeSlot => PEREGRINE_NO_FREE_SLOT,
            ErrorKind::Cancelled => PEREGRINE_CANCELLED,
            ErrorKind::NothingToUndo => PEREGRINE_NOTHING_TO_UNDO,
            ErrorKind::NothingToResume => PEREGRINE_NOTHING_TO_RESUME,
            ErrorKind::StateNotKept => PEREGRINE_STATE_NOT_KEPT,
            ErrorKind::StateDamaged => PEREGRINE_STATE_DAMAGED,
            ErrorKind::StateTooNew => PEREGRINE_STATE_TOO_NEW,
            ErrorKind::StateOfAnotherModel => PEREGRINE_STATE_OF_ANOTHER_MODEL,
            _ => PEREGRINE_FAILED,
        }
    }
}
