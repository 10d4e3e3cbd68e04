//! The targets. `make fuzz` runs them under libFuzzer, `tests/fuzz.rs` over the corpus and mutations of it.

use peregrine::format::TensorSource;
use peregrine::input;
use peregrine::model::{Config, ModelTensors};
use peregrine::openai::{Endpoint, Request};
use peregrine::runtime::{Checkpoint, SamplingDefaults, Snapshot};
use peregrine::text::{Message, Specials, Template, Tokenizer, TokenizerSettings};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A target: takes arbitrary bytes.
type Target = fn(&[u8]);

/// All targets by the name of their corpus folder.
#[allow(dead_code, reason = "each program of libFuzzer has one")]
pub const ALL: &[(&str, Target)] = &[
    ("config", config),
    ("generation", generation),
    ("gguf", gguf),
    ("index", index),
    ("pickle", pickle),
    ("request", request),
    ("safetensors", safetensors),
    ("state", state),
    ("template", template),
    ("tokenizer", tokenizer),
];

/// config.json, checked against the weights of a small model.
pub fn config(bytes: &[u8]) {
    with_file("config.json", bytes, |checkpoint| {
        let _ = (checkpoint.config().parameters(true), checkpoint.unused_keys().unknown.len());
        let _ = checkpoint.tensors();
    });
}

/// generation_config.json: sampling settings and EOS ids.
pub fn generation(bytes: &[u8]) {
    with_file("generation_config.json", bytes, |checkpoint| {
        let _ = (checkpoint.eos().len(), checkpoint.sampling(&SamplingDefaults::default(), 0));
    });
}

/// model.safetensors.index.json: the file of each tensor.
pub fn index(bytes: &[u8]) {
    with_file("model.safetensors.index.json", bytes, |checkpoint| drop(checkpoint.tensors()));
}

/// A GGUF file: metadata, config, tensors and some of their values.
pub fn gguf(bytes: &[u8]) {
    let Ok(source) = TensorSource::from_bytes("fuzz.gguf", bytes.to_vec()) else { return };
    let Some(metadata) = source.metadata() else { return };
    for (key, value) in metadata.entries() {
        assert!(metadata.get(key) == Some(value) || !equals_itself(value));
        let _ = (metadata.whole(key), metadata.text(key), metadata.texts(key), metadata.wholes(key));
    }
    decode_all(&source);
    let Ok(config) = Config::from_gguf(metadata, &source) else { return };
    let source = Arc::new(source);
    if let Ok(tensors) = ModelTensors::find(&config, &source) {
        tensors.layers.iter().for_each(|layer| drop((layer.a_skip(), layer.conv_taps())));
    }
}

/// NaN does not.
fn equals_itself(value: &peregrine::format::gguf::Value) -> bool {
    let same = value;
    value == same
}

/// A checkpoint of PyTorch: its archive, its pickle, its tensors and some of their values.
pub fn pickle(bytes: &[u8]) {
    if let Ok(source) = TensorSource::from_bytes("fuzz.pth", bytes.to_vec()) {
        decode_all(&source);
    }
}

/// A safetensors file: plain and quantized tensors and some of their values.
pub fn safetensors(bytes: &[u8]) {
    if let Ok(source) = TensorSource::from_bytes("fuzz.safetensors", bytes.to_vec()) {
        decode_all(&source);
    }
}

/// A saved state: what can be read can be written and read again.
pub fn state(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    let Ok(snapshot) = Snapshot::from_bytes("fuzz.state", &bytes) else { return };
    for snapshot in [snapshot.clone(), snapshot.halved()] {
        let written = snapshot.to_bytes().expect("it came from a file");
        let again = Snapshot::from_bytes("fuzz.state", &written).expect("it was just written");
        assert_eq!(
            (again.position(), again.text(), again.messages()),
            (snapshot.position(), snapshot.text(), snapshot.messages())
        );
    }
}

/// A chat template, rendered with a short conversation.
pub fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let Ok(template) = Template::new("fuzz.jinja", source) else { return };
    let messages = [Message::new("user", "hello <|im_end|>"), Message::new("assistant", "yes")];
    let specials = ["<|im_end|>".to_owned()];
    if let Ok(spans) = template.render(&messages, true, &specials) {
        let text: usize = spans.iter().map(|span| span.text.len()).sum();
        assert!(text < 1 << 28, "{text} bytes");
    }
}

/// tokenizer.json: encoding and decoding a text.
pub fn tokenizer(bytes: &[u8]) {
    let settings = TokenizerSettings::default();
    let Ok(tokenizer) = Tokenizer::from_json_with("fuzz.json", bytes, &settings) else { return };
    for text in ["", "Hello, world: 12 \u{e9}\u{1f98a}", "<|im_end|>a"] {
        for specials in [Specials::Parse, Specials::Literal] {
            if let Ok(ids) = tokenizer.encode_text(text, specials) {
                assert!(ids.iter().all(|id| tokenizer.bytes(*id).is_none_or(|bytes| bytes.len() < 1 << 20)));
                let _ = tokenizer.decode(&ids);
            }
        }
    }
}

/// The body of a request to each endpoint.
pub fn request(bytes: &[u8]) {
    let Ok(body) = input::json("fuzz.json", bytes) else { return };
    for endpoint in [Endpoint::Chat, Endpoint::Completions] {
        if let Err(refusal) = Request::parse(endpoint, &body) {
            assert!(refusal.message.len() < 400, "{}", refusal.message);
        }
    }
}

/// A small model's folder with one file replaced.
fn with_file(name: &str, bytes: &[u8], look: impl FnOnce(&Checkpoint)) {
    thread_local! {
        static FOLDER: tempfile::TempDir = {
            let folder = tempfile::tempdir().expect("there is room for a small model");
            for file in std::fs::read_dir(small_model()).expect("the model is in the repository").flatten() {
                if !file.file_name().to_string_lossy().starts_with("expected") {
                    std::fs::copy(file.path(), folder.path().join(file.file_name())).expect("there is room");
                }
            }
            folder
        };
    }
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        let own = std::fs::read(&path).ok();
        std::fs::write(&path, bytes).expect("there is room");
        if let Ok(checkpoint) = Checkpoint::open(folder.path()) {
            look(&checkpoint);
        }
        match own {
            Some(own) => std::fs::write(&path, own).expect("there is room"),
            None => std::fs::remove_file(&path).expect("it was just written"),
        }
    });
}

/// A path relative to the package, or to its parent.
fn small_model() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = "tests/fixtures/falcon-tiny";
    let own = package.join(model);
    if own.is_dir() { own } else { package.join("..").join(model) }
}

/// Decodes and encodes the first and the last row of every tensor: opening the file has checked that they exist.
fn decode_all(source: &TensorSource) {
    for name in source.names() {
        let Some(shape) = source.shape(name) else { continue };
        let Ok(tensor) = source.get(name, &shape) else { continue };
        let (rows, columns) = (tensor.rows(), tensor.columns());
        if tensor.shape.is_empty() || rows == 0 || columns == 0 {
            continue;
        }
        let format = tensor.held_as();
        for row in [0, rows - 1] {
            let mut values = vec![0.0; columns];
            tensor.decode_rows(row..row + 1, &mut values);
            tensor.encode_rows(row..row + 1, format, &mut vec![0; format.row_bytes(columns)]);
        }
        assert!(!tensor.parts(0..rows).is_empty());
    }
}

/// Corrects the checksum of a state file, if it has one, so that the code after the check is reached.
fn seal(bytes: &mut [u8]) {
    const NAME: &[u8] = b"sha256:";
    let Some(at) = bytes.windows(NAME.len()).position(|w| w == NAME).map(|at| at + NAME.len()) else { return };
    let Some(behind) = bytes.get(at + 64..) else { return };
    let mut digest = Sha256::new();
    digest.update(&bytes[..at]);
    digest.update(behind);
    let digits: String = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    bytes[at..at + 64].copy_from_slice(digits.as_bytes());
}
