//! The library's engines, sessions and answers as JavaScript classes, for browsers with WebGPU. Nothing here computes; each call is one
//! of the library's async ones. `js/index.d.ts` documents the classes.
#![cfg(target_arch = "wasm32")]

mod answer;
mod error;
mod model;
mod options;
mod selftest;
mod session;

use wasm_bindgen::prelude::*;

/// Shows a panic, which is a mistake in peregrine, with its place. The module cannot be used after it.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| {
        wasm_bindgen::throw_str(&format!("a mistake in peregrine, please report it: {panic}"));
    }));
}

/// The version of the library.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
