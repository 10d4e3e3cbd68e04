//! States as bytes.

use crate::boundary::call;
use crate::bytes::peregrine_bytes;
use crate::peregrine_status;
use crate::pointers::{handle, optional_out, out, values};
use crate::session::peregrine_session;
use peregrine::Snapshot;

/// Gives the conversation with its state as bytes: those of a file that `peregrine --save-state` writes. Another session of the same
/// model continues from them, in this process or another.
///
/// - `snapshot`: receives the bytes, to be freed by `peregrine_bytes_free`; NULL after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_snapshot(
    session: *mut peregrine_session,
    snapshot: *mut *mut peregrine_bytes,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (snapshot, session) =
            unsafe { (out(snapshot, std::ptr::null_mut(), "snapshot")?, handle(session, "session")?) };
        let taken = session.lock()?.snapshot()?;
        snapshot.set(peregrine_bytes::of(taken.to_bytes()?));
        Ok(())
    })
}

/// Continues from a snapshot, which replaces the session's conversation and sampling parameters. On the same device, with the same
/// weights, the tokens are those of an uninterrupted session.
///
/// - `snapshot`: `size` bytes.
/// - `warnings`: receives a text with a line for each reason why the tokens may differ, to be freed by `peregrine_bytes_free`; NULL if
///   there is none, and after an error. May be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_session_restore(
    session: *mut peregrine_session,
    snapshot: *const u8,
    size: usize,
    warnings: *mut *mut peregrine_bytes,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (warnings, session, bytes) = unsafe {
            (
                optional_out(warnings, std::ptr::null_mut(), "warnings")?,
                handle(session, "session")?,
                values(snapshot, size, "snapshot")?,
            )
        };
        let mut session = session.lock()?;
        let found = session.restore(&Snapshot::from_bytes("the snapshot", bytes)?)?;
        if let Some(warnings) = warnings
            && !found.is_empty()
        {
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            warnings.set(peregrine_bytes::of(lines.join("\n")));
        }
        Ok(())
    })
}
