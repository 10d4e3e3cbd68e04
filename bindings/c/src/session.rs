//! Sessions: one conversation each.

use crate::boundary::{Failure, call, quietly};
use crate::bytes::peregrine_bytes;
use crate::engine::{Identity, peregrine_engine};
use crate::options::{peregrine_sampling, sampling};
use crate::peregrine_status;
use crate::pointers::{free_handle, handle, new_handle, optional_out, out, text, values, write_values};
use peregrine::{CancelHandle, Session};
use std::ffi::{c_char, c_void};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// One conversation, in a slot of its engine. It does one call at a time: a second one, from another thread or from a callback of the
/// first, is PEREGRINE_BUSY. After an error the conversation is as before the call, unless the function says otherwise.
pub struct peregrine_session {
    session: Mutex<Session>,
    pub(crate) cancel: CancelHandle,
    pub(crate) engine: Identity,
}

impl peregrine_session {
    fn new(session: Session, engine: Identity) -> Self {
        peregrine_session { cancel: session.cancel_handle(), session: Mutex::new(session), engine }
    }

    /// The session, for one call.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, Session>, Failure> {
        self.session.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::Busy,
            TryLockError::Poisoned(_) => Failure::Broken,
        })
    }
}

/// Begins a conversation in a free slot; PEREGRINE_NO_FREE_SLOT if there is none.
///
/// - `sampling`: how tokens are chosen; NULL: always the most probable.
/// - `session`: receives the session, to be freed by `peregrine_session_free`; NULL after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_new(
    engine: *mut peregrine_engine,
    sampling: *const peregrine_sampling,
    session: *mut *mut peregrine_session,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (session, engine, sampling) = unsafe {
            (out(session, std::ptr::null_mut(), "session")?, handle(engine, "engine")?, self::sampling(sampling)?)
        };
        let begun = engine.engine.session(sampling)?;
        session.set(new_handle(peregrine_session::new(begun, engine.identity.clone())));
        Ok(())
    })
}

/// Frees the session and its slot. If a call of another thread is in progress, it is cancelled, and the slot is free when it has ended.
/// NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_free(session: *mut peregrine_session) {
    quietly(|| {
        // SAFETY: the caller's handle, which it does not use again.
        if let Some(session) = unsafe { free_handle(session) } {
            session.cancel.cancel_all();
        }
    });
}

/// Begins a conversation that goes on from here by itself, in another slot.
///
/// - `other`: receives the new session, to be freed by `peregrine_session_free`; NULL after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_fork(
    session: *mut peregrine_session,
    other: *mut *mut peregrine_session,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (other, session) = unsafe { (out(other, std::ptr::null_mut(), "other")?, handle(session, "session")?) };
        let forked = session.lock()?.fork()?;
        other.set(new_handle(peregrine_session::new(forked, session.engine.clone())));
        Ok(())
    })
}

/// Changes how tokens are chosen from the next answer on.
///
/// - `sampling`: NULL: always the most probable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_set_sampling(
    session: *mut peregrine_session,
    sampling: *const peregrine_sampling,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (session, sampling) = unsafe { (handle(session, "session")?, self::sampling(sampling)?) };
        Ok(session.lock()?.set_sampling(sampling)?)
    })
}

/// Sets the system prompt; a conversation in progress is read again with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_system(
    session: *mut peregrine_session,
    text: *const c_char,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (session, text) = unsafe { (handle(session, "session")?, self::text(text, "text")?) };
        session.lock()?.system(&text);
        Ok(())
    })
}

/// Clears the conversation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_clear(session: *mut peregrine_session) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's handle.
        let session = unsafe { handle(session, "session") }?;
        Ok(session.lock()?.clear()?)
    })
}

/// Removes the user's last message and its answer, without reading anything.
///
/// - `message`: receives the message, to be freed by `peregrine_bytes_free`; NULL after an error. May be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_undo(
    session: *mut peregrine_session,
    message: *mut *mut peregrine_bytes,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (message, session) =
            unsafe { (optional_out(message, std::ptr::null_mut(), "message")?, handle(session, "session")?) };
        let gone = session.lock()?.undo()?;
        if let Some(message) = message {
            message.set(peregrine_bytes::of(gone.content));
        }
        Ok(())
    })
}

/// Gives the number of tokens consumed so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_position(
    session: *mut peregrine_session,
    position: *mut u64,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (position, session) = unsafe { (out(position, 0, "position")?, handle(session, "session")?) };
        position.set(session.lock()?.position());
        Ok(())
    })
}

/// Called with each message of a conversation: its role, such as "user", and its text. Both end with NUL too, and are valid during the
/// call.
pub type peregrine_on_message = Option<
    unsafe extern "C" fn(
        role: *const c_char,
        role_size: usize,
        text: *const c_char,
        text_size: usize,
        user: *mut c_void,
    ),
>;

/// Lists the messages of the conversation so far, oldest first.
///
/// - `on_message`: called on this thread, with `user`, before the function returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_messages(
    session: *mut peregrine_session,
    on_message: peregrine_on_message,
    user: *mut c_void,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's handle.
        let session = unsafe { handle(session, "session") }?;
        let each = on_message.ok_or_else(|| Failure::Argument("on_message is NULL".to_owned()))?;
        let messages = session.lock()?.messages().to_vec();
        for message in messages {
            let [role, text] = [&message.role, &message.content].map(|text| format!("{text}\0"));
            let (role_size, text_size) = (role.len() - 1, text.len() - 1);
            // SAFETY: the caller's function, with what the header says.
            unsafe { each(role.as_ptr().cast(), role_size, text.as_ptr().cast(), text_size, user) };
        }
        Ok(())
    })
}

/// Reads token ids without generating. A cancel ends it with PEREGRINE_CANCELLED; what was read until then stays read.
///
/// - `ids`: `count` ids.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_feed(
    session: *mut peregrine_session,
    ids: *const u32,
    count: usize,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (session, ids) = unsafe { (handle(session, "session")?, values(ids, count, "ids")?) };
        Ok(session.lock()?.feed(ids)?)
    })
}

/// Gives the logits after the last token consumed: of every token of the vocabulary, before penalties and biases.
///
/// - `logits`: room for `count` values, as many as `peregrine_engine_vocabulary` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_logits(
    session: *mut peregrine_session,
    logits: *mut f32,
    count: usize,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's handle.
        let session = unsafe { handle(session, "session") }?;
        let session = session.lock()?;
        if session.position() == 0 {
            return Err(peregrine::Error::NoTokens.into());
        }
        let snapshot = session.snapshot()?;
        // SAFETY: the caller's room for `count` values.
        unsafe { write_values(logits, count, &snapshot.state().logits, "logits") }
    })
}
