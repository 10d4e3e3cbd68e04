//! Answers: generated text, piece by piece.

use crate::boundary::{Failure, call};
use crate::options::{self, peregrine_answer_options};
use crate::peregrine_status;
use crate::pointers::{handle, optional_out, text, values};
use crate::session::peregrine_session;
use peregrine::{Answer, AnswerOptions, Finish, Session};
use std::ffi::{c_char, c_int, c_void};

/// Why an answer ended.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum peregrine_finish {
    /// The model ended it, or its grammar did.
    PEREGRINE_FINISH_END = 0,
    /// It has as many tokens as it may.
    PEREGRINE_FINISH_LENGTH = 1,
    /// At a stop text.
    PEREGRINE_FINISH_STOP = 2,
    /// `peregrine_cancel` or the callback ended it, or nothing was begun.
    PEREGRINE_FINISH_CANCELLED = 3,
    /// An error ended it; the call returned its status.
    PEREGRINE_FINISH_FAILED = 4,
}

use peregrine_finish::*;

/// Called with each piece of an answer: `size` bytes of whole characters in UTF-8, and a NUL after them. They are valid during the call.
/// Return 0 to go on, anything else to end the answer.
pub type peregrine_on_text = Option<unsafe extern "C" fn(text: *const c_char, size: usize, user: *mut c_void) -> c_int>;

/// A callback of C with what it is given.
struct Listener {
    on_text: peregrine_on_text,
    user: *mut c_void,
}

impl Listener {
    /// Gives it a piece; whether it wants more.
    fn hear(&self, mut piece: String) -> bool {
        let Some(on_text) = self.on_text else { return true };
        let size = piece.len();
        piece.push('\0');
        // SAFETY: the caller's function, with what the header says.
        unsafe { on_text(piece.as_ptr().cast(), size, self.user) == 0 }
    }

    /// Gives it an answer to the end; why that ended.
    fn follow(&self, mut answer: Answer<'_>) -> Result<peregrine_finish, Failure> {
        for piece in answer.by_ref() {
            if !self.hear(piece?) {
                return Ok(PEREGRINE_FINISH_CANCELLED);
            }
        }
        Ok(match answer.finish() {
            Some(Finish::Eos) => PEREGRINE_FINISH_END,
            Some(Finish::Length) => PEREGRINE_FINISH_LENGTH,
            Some(Finish::Stop) => PEREGRINE_FINISH_STOP,
            Some(Finish::Cancelled) => PEREGRINE_FINISH_CANCELLED,
            Some(Finish::Failed) | None => PEREGRINE_FINISH_FAILED,
        })
    }
}

/// Begins an answer of a session and gives it to the listener.
///
/// # Safety
/// The pointers are as the header says.
unsafe fn answer(
    session: *mut peregrine_session,
    options: *const peregrine_answer_options,
    listener: &Listener,
    finish: *mut peregrine_finish,
    begin: impl for<'a> FnOnce(&'a mut Session, &AnswerOptions) -> Result<Answer<'a>, Failure>,
) -> Result<(), Failure> {
    // SAFETY: as the caller promises.
    let (finish, session) =
        unsafe { (optional_out(finish, PEREGRINE_FINISH_FAILED, "finish")?, handle(session, "session")?) };
    let mut session = session.lock()?;
    // SAFETY: as the caller promises.
    let options = unsafe { options::answer(options, session.engine()) }?;
    let ended = listener.follow(begin(&mut session, &options)?)?;
    drop(session);
    if let Some(finish) = finish {
        finish.set(ended);
    }
    Ok(())
}

/// Sends a message as the user and gives the answer to `on_text`, piece by piece.
///
/// - `text`: UTF-8.
/// - `options`: NULL for the defaults.
/// - `on_text`: called on this thread, with `user`; NULL: nobody listens. It may use other sessions; this one is busy.
/// - `finish`: receives why the answer ended; may be NULL.
///
/// After an error, or a cancel before the answer began, the conversation is as before. If the error or the cancel comes later, the text
/// given out stays part of the conversation, and `peregrine_session_resume` continues it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_send(
    session: *mut peregrine_session,
    text: *const c_char,
    options: *const peregrine_answer_options,
    on_text: peregrine_on_text,
    user: *mut c_void,
    finish: *mut peregrine_finish,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        unsafe {
            let text = self::text(text, "text");
            answer(session, options, &Listener { on_text, user }, finish, |session, options| {
                Ok(session.send(&text?, options)?)
            })
        }
    })
}

/// Reads token ids as they are and generates after them. Nothing of a chat is added.
///
/// - `ids`: `count` ids; with none, it generates after what was read before.
/// - the others: see `peregrine_session_send`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_generate(
    session: *mut peregrine_session,
    ids: *const u32,
    count: usize,
    options: *const peregrine_answer_options,
    on_text: peregrine_on_text,
    user: *mut c_void,
    finish: *mut peregrine_finish,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        unsafe {
            let ids = values(ids, count, "ids");
            answer(session, options, &Listener { on_text, user }, finish, |session, options| {
                Ok(session.complete(ids?, options)?)
            })
        }
    })
}

/// Continues the last answer after its token limit, a cancel or an error, without reading anything: the tokens are the same as without
/// the interruption.
///
/// - all arguments: see `peregrine_session_send`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_resume(
    session: *mut peregrine_session,
    options: *const peregrine_answer_options,
    on_text: peregrine_on_text,
    user: *mut c_void,
    finish: *mut peregrine_finish,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        unsafe {
            answer(session, options, &Listener { on_text, user }, finish, |session, options| {
                Ok(session.resume(options)?)
            })
        }
    })
}

/// Replaces the last answer by a new one. With the same seed it is the same.
///
/// - all arguments: see `peregrine_session_send`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_retry(
    session: *mut peregrine_session,
    options: *const peregrine_answer_options,
    on_text: peregrine_on_text,
    user: *mut c_void,
    finish: *mut peregrine_finish,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        unsafe {
            answer(
                session,
                options,
                &Listener { on_text, user },
                finish,
                |session, options| Ok(session.retry(options)?),
            )
        }
    })
}
