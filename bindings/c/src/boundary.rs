//! The boundary to C: every call goes through it, so that no panic leaves Rust and every failure has a text.

use crate::peregrine_status;
use crate::peregrine_status::{PEREGRINE_BUSY, PEREGRINE_INTERNAL, PEREGRINE_INVALID_ARGUMENT, PEREGRINE_OK};
use peregrine::Error;
use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's error.
    Library(Error),
    /// An argument of C that Rust does not have, such as a null pointer.
    Argument(String),
    /// Another call on the session has not ended.
    Busy,
    /// An earlier call on the session panicked.
    Broken,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Library(error)
    }
}

impl Failure {
    fn status(&self) -> peregrine_status {
        match self {
            Failure::Library(error) => error.into(),
            Failure::Argument(_) => PEREGRINE_INVALID_ARGUMENT,
            Failure::Busy => PEREGRINE_BUSY,
            Failure::Broken => PEREGRINE_INTERNAL,
        }
    }

    fn text(&self) -> String {
        match self {
            Failure::Library(error) => error.to_string(),
            Failure::Argument(problem) => problem.clone(),
            Failure::Busy => "another call on this session has not ended".to_owned(),
            Failure::Broken => "an earlier call on this session failed inside peregrine: free the session".to_owned(),
        }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of a call. A failure or a panic sets the thread's last error.
pub(crate) fn call(body: impl FnOnce() -> Result<(), Failure>) -> peregrine_status {
    let (status, text) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return PEREGRINE_OK,
        Ok(Err(failure)) => (failure.status(), failure.text()),
        Err(panic) => (PEREGRINE_INTERNAL, format!("peregrine has a bug; please report it: {}", said(&*panic))),
    };
    // At the end of a thread there may be no last error any more.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = c_text(&text));
    status
}

/// Runs what cannot fail, such as freeing. A panic is dropped: its message was printed.
pub(crate) fn quietly(body: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(body));
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// A text for C, in which NUL would end it early.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// The text of the last call that failed on this thread; "" if none did. It says what failed, where, and what to do.
///
/// The text belongs to the library. It is valid until a call fails on this thread, or the thread ends. A call that works leaves it.
#[unsafe(no_mangle)]
pub extern "C" fn peregrine_last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peregrine_status::PEREGRINE_NO_DEVICE;
    use std::ffi::CStr;

    fn last_error() -> String {
        // SAFETY: it is a text of this thread, and no call fails in between.
        unsafe { CStr::from_ptr(peregrine_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        let status = call(|| panic!("no {}", "shader"));
        assert_eq!(status, PEREGRINE_INTERNAL);
        assert!(last_error().ends_with("no shader"), "{}", last_error());
        let _ = call(|| std::panic::panic_any(7));
        assert!(last_error().ends_with("a panic"), "{}", last_error());
        quietly(|| panic!("it is printed"));
    }

    #[test]
    fn an_error_keeps_the_librarys_text_and_success_keeps_the_error() {
        let why = "a\0b".to_owned();
        assert_eq!(call(|| Err(Error::NoAdapter { why }.into())), PEREGRINE_NO_DEVICE);
        assert_eq!(last_error(), "no GPU adapter found: a\u{fffd}b");
        assert_eq!(call(|| Ok(())), PEREGRINE_OK);
        assert_eq!(last_error(), "no GPU adapter found: a\u{fffd}b");
        std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
    }
}
