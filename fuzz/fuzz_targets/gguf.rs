//! A GGUF file out of anything: its keys, its config, its tensors, and some of their values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peregrine::format::TensorSource;
use peregrine::model::{Config, ModelTensors};
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let Ok(source) = TensorSource::from_bytes("fuzz.gguf", bytes.to_vec()) else { return };
    let Some(metadata) = source.metadata() else { return };
    for (key, value) in metadata.entries() {
        assert!(metadata.get(key) == Some(value) || !same(value));
        let _ = (metadata.whole(key), metadata.text(key), metadata.texts(key), metadata.wholes(key));
    }
    peregrine_fuzz::decode_all(&source);
    let Ok(config) = Config::from_gguf(metadata, &source) else { return };
    let source = Arc::new(source);
    if let Ok(tensors) = ModelTensors::find(&config, &source) {
        tensors.layers.iter().for_each(|layer| drop((layer.a_skip(), layer.conv_taps())));
    }
});

/// Whether a value equals itself: NaN does not.
fn same(value: &peregrine::format::gguf::Value) -> bool {
    value == value
}
