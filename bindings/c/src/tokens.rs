//! Tokens of texts, and texts of tokens.

use crate::boundary::call;
use crate::bytes::peregrine_bytes;
use crate::engine::peregrine_engine;
use crate::peregrine_status;
use crate::pointers::{handle, out, text, values, write_values};
use peregrine::runtime::Specials;
use std::ffi::{c_char, c_int};

/// Gives the token ids of a plain text, with the tokens that the tokenizer adds before and after a text.
///
/// - `text`: UTF-8.
/// - `specials`: 1 reads spellings of special tokens as those tokens, 0 as text.
/// - `ids`: room for `capacity` ids; NULL to learn the count.
/// - `count`: receives the number of ids, also if there is too little room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_tokenize(
    engine: *const peregrine_engine,
    text: *const c_char,
    specials: c_int,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (count, engine, text) =
            unsafe { (out(count, 0, "count")?, handle(engine, "engine")?, self::text(text, "text")?) };
        let specials = if specials == 0 { Specials::Literal } else { Specials::Parse };
        let found = engine.engine.checkpoint().tokenizer()?.encode_text(&text, specials)?;
        count.set(found.len());
        if ids.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's room for `capacity` ids.
        unsafe { write_values(ids, capacity, &found, "ids") }
    })
}

/// Gives the text of token ids, with special tokens; incomplete characters become U+FFFD.
///
/// - `ids`: `count` ids.
/// - `text`: receives UTF-8, to be freed by `peregrine_bytes_free`; NULL after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_decode(
    engine: *const peregrine_engine,
    ids: *const u32,
    count: usize,
    text: *mut *mut peregrine_bytes,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (text, engine, ids) = unsafe {
            (out(text, std::ptr::null_mut(), "text")?, handle(engine, "engine")?, values(ids, count, "ids")?)
        };
        text.set(peregrine_bytes::of(engine.engine.checkpoint().tokenizer()?.decode(ids)));
        Ok(())
    })
}
