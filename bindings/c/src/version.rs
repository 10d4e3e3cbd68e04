//! Versions.

use std::ffi::c_char;

/// Version of the interface in this header. It changes when a program that was compiled with an older header would no longer work;
/// new functions, statuses and fields at the end of structs leave it.
pub const PEREGRINE_ABI_VERSION: u32 = 1;

/// Version of the interface of the library that was loaded. A program may go on if it equals `PEREGRINE_ABI_VERSION`.
#[unsafe(no_mangle)]
pub extern "C" fn peregrine_abi_version() -> u32 {
    PEREGRINE_ABI_VERSION
}

/// Version of the library, such as "0.1.0". The text is valid for as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn peregrine_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
