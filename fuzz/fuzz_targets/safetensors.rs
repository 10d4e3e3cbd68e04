//! A safetensors file out of anything: its tensors, plain or quantized, and some of their values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peregrine::format::TensorSource;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(source) = TensorSource::from_bytes("fuzz.safetensors", bytes.to_vec()) {
        peregrine_fuzz::decode_all(&source);
    }
});
