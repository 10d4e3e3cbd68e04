//! Ending a session's call from another thread.

use crate::boundary::{call, quietly};
use crate::peregrine_status;
use crate::pointers::{free_handle, handle, new_handle, out};
use crate::session::peregrine_session;
use peregrine::CancelHandle;

/// Ends the calls of a session. It may be used from any thread, also while the session is busy, and after the session was freed: then
/// it does nothing.
pub struct peregrine_cancel_handle {
    handle: CancelHandle,
}

/// Gives a handle that ends the calls of this session. It works while the session is busy.
///
/// - `cancel`: receives the handle, to be freed by `peregrine_cancel_free`; NULL after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_cancel_handle(
    session: *mut peregrine_session,
    cancel: *mut *mut peregrine_cancel_handle,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (cancel, session) = unsafe { (out(cancel, std::ptr::null_mut(), "cancel")?, handle(session, "session")?) };
        cancel.set(new_handle(peregrine_cancel_handle { handle: session.cancel.clone() }));
        Ok(())
    })
}

/// Ends the call in progress: an answer after its current token, with PEREGRINE_FINISH_CANCELLED; the reading of a prompt after its
/// current chunk. Without a call in progress it does nothing, and a cancel that comes too late does not end the next call. NULL is
/// allowed.
///
/// It returns at once. It takes a lock, so a signal handler must not call it: let a thread wait for the signal.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_cancel(cancel: *mut peregrine_cancel_handle) {
    // SAFETY: the caller's handle.
    quietly(|| drop(unsafe { handle(cancel, "cancel") }.map(|cancel| cancel.handle.cancel())));
}

/// Frees the handle. The session stays. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_cancel_free(cancel: *mut peregrine_cancel_handle) {
    // SAFETY: the caller's handle, which it does not use again.
    quietly(|| drop(unsafe { free_handle(cancel) }));
}
