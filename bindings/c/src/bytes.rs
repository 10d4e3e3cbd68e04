//! Bytes that the library gives out.

use crate::boundary::quietly;
use crate::pointers::{free_handle, handle, new_handle};
use std::ffi::c_char;

/// Bytes or a text that the library gave out, and that `peregrine_bytes_free` frees. They do not change, and do not need what they came
/// from: any number of threads may read them, also after the engine was freed.
pub struct peregrine_bytes {
    /// Followed by NUL.
    bytes: Vec<u8>,
}

impl peregrine_bytes {
    pub(crate) fn of(bytes: impl Into<Vec<u8>>) -> *mut Self {
        let mut bytes: Vec<u8> = bytes.into();
        bytes.reserve_exact(1);
        bytes.push(0);
        new_handle(peregrine_bytes { bytes })
    }
}

/// The first byte, valid until they are freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_bytes_data(bytes: *const peregrine_bytes) -> *const u8 {
    // SAFETY: the caller's handle.
    match unsafe { handle(bytes, "bytes") } {
        // They outlive this use of the handle: the caller has not freed it.
        Ok(bytes) => bytes.bytes.as_ptr(),
        Err(_) => std::ptr::null(),
    }
}

/// The same as a text of C: a NUL, which is not counted, follows the last byte. A text may have other NULs before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_bytes_text(bytes: *const peregrine_bytes) -> *const c_char {
    // SAFETY: the caller's handle.
    unsafe { peregrine_bytes_data(bytes) }.cast()
}

/// How many there are. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_bytes_size(bytes: *const peregrine_bytes) -> usize {
    // SAFETY: the caller's handle.
    unsafe { handle(bytes, "bytes") }.map_or(0, |bytes| bytes.bytes.len() - 1)
}

/// Frees them. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_bytes_free(bytes: *mut peregrine_bytes) {
    // SAFETY: the caller's handle, which it does not use again.
    quietly(|| drop(unsafe { free_handle(bytes) }));
}
