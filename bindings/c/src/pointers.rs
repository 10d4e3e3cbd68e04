//! Reading what C points to, and writing where it points.
//!
//! These functions notice null pointers and misaligned ones. Nothing can notice a pointer to memory that was freed or is too short:
//! that what it points to is there, and is of the type that the header says, is the caller's promise in every `unsafe` block here.

use crate::boundary::Failure;
use peregrine::Error;
use std::ffi::{CStr, c_char};
use std::sync::Arc;

/// A handle that C can hold.
pub(crate) fn new_handle<T: Send + Sync>(value: T) -> *mut T {
    Arc::into_raw(Arc::new(value)).cast_mut()
}

/// What a handle refers to. It stays alive while it is used here, even if another thread frees the handle.
///
/// # Safety
/// It is null or from [`new_handle`], and was not freed.
pub(crate) unsafe fn handle<T>(pointer: *const T, name: &str) -> Result<Arc<T>, Failure> {
    checked(pointer, name)?;
    // SAFETY: new_handle made it from an Arc, which lives until free_handle.
    unsafe {
        Arc::increment_strong_count(pointer);
        Ok(Arc::from_raw(pointer))
    }
}

/// Takes a handle back; null is none.
///
/// # Safety
/// As [`handle`], and the caller does not use it again.
pub(crate) unsafe fn free_handle<T>(pointer: *mut T) -> Option<Arc<T>> {
    // SAFETY: new_handle made it from an Arc, whose count of this handle ends here.
    checked(pointer, "").ok().map(|()| unsafe { Arc::from_raw(pointer.cast_const()) })
}

/// A text of C.
///
/// # Safety
/// It is null or points to bytes that end with NUL.
pub(crate) unsafe fn text(pointer: *const c_char, name: &str) -> Result<String, Failure> {
    checked(pointer, name)?;
    // SAFETY: it is not null, and the caller promises the NUL.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to() as u64;
        Error::NotText { what: name.to_owned(), at }
    })?;
    Ok(text.to_owned())
}

/// A text of C that may be null.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text(pointer: *const c_char, name: &str) -> Result<Option<String>, Failure> {
    // SAFETY: as the caller promises.
    if pointer.is_null() { Ok(None) } else { unsafe { text(pointer, name) }.map(Some) }
}

/// `count` values; null is allowed for none.
///
/// # Safety
/// It points to that many values, which nobody changes during `'a`.
pub(crate) unsafe fn values<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    room(pointer, count, name)?;
    // SAFETY: it is aligned and not null, its size is one that exists, and the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Writes values where the caller has room for `count`; too little is an error.
///
/// # Safety
/// It points to room for that many values, which nobody else uses meanwhile.
pub(crate) unsafe fn write_values<T: Copy>(
    pointer: *mut T,
    count: usize,
    values: &[T],
    name: &str,
) -> Result<(), Failure> {
    if count < values.len() {
        let problem = format!("{name} has room for {count} values, and there are {}", values.len());
        return Err(Failure::Argument(problem));
    }
    if !values.is_empty() {
        room(pointer, count, name)?;
        // SAFETY: it is aligned, and the caller promises room for at least as many; a slice of this library is elsewhere.
        unsafe { pointer.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }
    Ok(())
}

/// Where a result goes.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Writes it.
    pub(crate) fn set(&self, value: T) {
        // SAFETY: `out` checked it, and its caller promises the room during the call.
        unsafe { self.0.write(value) };
    }
}

/// A place for a result, which holds `none` until there is one.
///
/// # Safety
/// It is null or points to room for a value during the call.
pub(crate) unsafe fn out<T>(pointer: *mut T, none: T, name: &str) -> Result<Out<T>, Failure> {
    checked(pointer, name)?;
    let out = Out(pointer);
    out.set(none);
    Ok(out)
}

/// The same, where null means that the caller does not want it.
///
/// # Safety
/// As [`out`].
pub(crate) unsafe fn optional_out<T>(pointer: *mut T, none: T, name: &str) -> Result<Option<Out<T>>, Failure> {
    // SAFETY: as the caller promises.
    if pointer.is_null() { Ok(None) } else { unsafe { out(pointer, none, name) }.map(Some) }
}

fn checked<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    match (pointer.is_null(), pointer.is_aligned()) {
        (true, _) => Err(Failure::Argument(format!("{name} is NULL"))),
        (false, false) => Err(Failure::Argument(format!("{name} is not a pointer to such a value: it is misaligned"))),
        (false, true) => Ok(()),
    }
}

fn room<T>(pointer: *const T, count: usize, name: &str) -> Result<(), Failure> {
    checked(pointer, name)?;
    match count.checked_mul(size_of::<T>()).and_then(|bytes| isize::try_from(bytes).ok()) {
        Some(_) => Ok(()),
        None => Err(Failure::Argument(format!("{name} cannot have {count} values"))),
    }
}
