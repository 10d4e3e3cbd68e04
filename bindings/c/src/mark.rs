//! Marks: moments to go back to.

use crate::boundary::{Failure, call, quietly};
use crate::engine::Identity;
use crate::peregrine_status;
use crate::pointers::{free_handle, handle, new_handle, out};
use crate::session::peregrine_session;
use peregrine::Mark;

/// A moment of a session, to go back to any number of times. It does not need the session, nor the engine's handle.
pub struct peregrine_mark {
    mark: Mark,
    engine: Identity,
}

/// Marks the current moment.
///
/// - `mark`: receives the mark, to be freed by `peregrine_mark_free`; NULL after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_mark(
    session: *mut peregrine_session,
    mark: *mut *mut peregrine_mark,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (mark, session) = unsafe { (out(mark, std::ptr::null_mut(), "mark")?, handle(session, "session")?) };
        let now = session.lock()?.mark()?;
        mark.set(new_handle(peregrine_mark { mark: now, engine: session.engine.clone() }));
        Ok(())
    })
}

/// Goes back to a moment of this session, or of another one of the same engine. The sampling parameters stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_back_to(
    session: *mut peregrine_session,
    mark: *const peregrine_mark,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's handles.
        let (session, mark) = unsafe { (handle(session, "session")?, handle(mark, "mark")?) };
        if mark.engine != session.engine {
            return Err(Failure::Argument("mark is of another engine".to_owned()));
        }
        Ok(session.lock()?.back_to(&mark.mark)?)
    })
}

/// Frees the mark. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_mark_free(mark: *mut peregrine_mark) {
    // SAFETY: the caller's handle, which it does not use again.
    quietly(|| drop(unsafe { free_handle(mark) }));
}
