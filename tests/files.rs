//! Files of the wrong format, or incomplete ones: the error names the actual format and says what to do.

mod common;
#[path = "common/craft.rs"]
mod craft;
mod program;

use common::{TINY, fixture, no_gpu, shipped};
use craft::Craft;
use peregrine::Error;
use peregrine::format::WeightFormat;
use peregrine::runtime::{Checkpoint, Existing, ExportOptions, SamplingDefaults};
use program::{peregrine, refused, run, stderr, stdout};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f0f\nsize 516567560\n";

/// Contents of a wrong file, and words of the error.
fn others() -> Vec<(&'static [u8], [&'static str; 2])> {
    vec![
        (LFS, ["Git LFS pointer", "git lfs pull"]),
        (b"<!doctype html><html>401</html>", ["web page", "download it again"]),
        (b"<?xml version=\"1.0\"?><Error/>", ["web page", "download it again"]),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", ["gzip", "unpack it"]),
        (b"PK\x03\x04\x14\0archive/data.pkl", ["a PyTorch pickle", ".safetensors"]),
        (b"PK\x03\x04\x14\0model.safetensors", ["zip archive", "unpack it"]),
        (b"\x80\x02}q\0X\x05\0\0\0", ["a PyTorch pickle", ".safetensors"]),
    ]
}

/// A checkpoint with a tokenizer.
fn whole() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixture("mamba-tiny").join(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// Opens a checkpoint and uses all of its parts.
fn open(path: &Path) -> Result<(), Error> {
    let checkpoint = Checkpoint::open(path)?;
    checkpoint.tokenizer()?;
    checkpoint.tensors().map(drop)
}

fn says(path: &Path, words: &[&str]) -> Error {
    let error = open(path).expect_err("it should be refused");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    error
}

#[test]
fn files_of_the_wrong_format_are_identified() {
    open(whole().path()).unwrap();
    for (bytes, words) in others() {
        for name in ["model.safetensors", "config.json", "tokenizer.json"] {
            let dir = whole();
            fs::write(dir.path().join(name), bytes).unwrap();
            let error = says(dir.path(), &[words[0], words[1], name]);
            assert!(matches!(error, Error::WrongKind { .. }), "{name}: {error}");
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["x.gguf", "x.bin"] {
            let file = dir.path().join(name);
            fs::write(&file, bytes).unwrap();
            let error = says(&file, &[words[0], words[1], name]);
            assert!(matches!(error, Error::WrongKind { .. }), "{name}: {error}");
        }
        let dir = whole();
        fs::rename(dir.path().join("model.safetensors"), dir.path().join("model-00001-of-00001.safetensors")).unwrap();
        fs::write(dir.path().join("model.safetensors.index.json"), bytes).unwrap();
        says(dir.path(), &[words[0], words[1], "model.safetensors.index.json"]);
    }
    let (utf16, dir) = ("{\"a\": 1}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(), whole());
    fs::write(dir.path().join("config.json"), [b"\xff\xfe", &utf16[..]].concat()).unwrap();
    says(dir.path(), &["config.json", "UTF-16", "save it as UTF-8"]);
    fs::write(dir.path().join("config.json"), "{\"error\": \"Access to this model is restricted\"}").unwrap();
    says(dir.path(), &["config.json", "a server sent", "is restricted"]);
}

#[test]
fn weights_named_as_another_container_are_recognized() {
    let (safetensors, gguf) = (TINY.safetensors(), Craft::of(TINY).bytes());
    let dir = whole();
    fs::write(dir.path().join("model.safetensors"), &gguf).unwrap();
    says(dir.path(), &["model.safetensors is a GGUF file", "-m"]);
    fs::write(dir.path().join("x.gguf"), &safetensors).unwrap();
    says(&dir.path().join("x.gguf"), &["x.gguf is a safetensors file", "config.json"]);
    // A server's error message in plain text.
    for name in ["model.safetensors", "x.gguf"] {
        fs::write(dir.path().join(name), "Entry not found").unwrap();
    }
    says(dir.path(), &["model.safetensors", "text that begins with \"Entry not found\""]);
    says(&dir.path().join("x.gguf"), &["x.gguf", "text that begins with \"Entry not found\""]);
    fs::write(dir.path().join("x.gguf"), [0; 4096]).unwrap();
    says(&dir.path().join("x.gguf"), &["all zero bytes"]);
    // A GGUF file is recognized under any name.
    fs::write(dir.path().join("blob"), &gguf).unwrap();
    Checkpoint::open(dir.path().join("blob")).unwrap().tensors().unwrap();
    // A file of a folder opens the folder, a shard the whole model.
    let error = says(&whole().path().join("model.safetensors"), &["no model at", "did you mean"]);
    assert!(matches!(error, Error::ModelNotFound { near: Some(_), .. }), "{error}");
    fs::write(dir.path().join("x.gguf.part2of2"), &gguf[gguf.len() / 2..]).unwrap();
    says(&dir.path().join("x.gguf.part2of2"), &["a piece of a GGUF file", "join"]);
    fs::write(dir.path().join("x.gguf.part1of2"), &gguf[..gguf.len() - 64]).unwrap();
    says(&dir.path().join("x.gguf.part1of2"), &["was it cut off?", "join"]);
}

#[test]
fn byte_order_marks_and_python_literals_are_read() {
    let dir = whole();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let path = dir.path().join(name);
        fs::write(&path, [b"\xef\xbb\xbf", &fs::read(&path).unwrap()[..]].concat()).unwrap();
    }
    open(dir.path()).unwrap();
    let config = TINY.config().to_string();
    let limit = config.replacen(
        '{',
        "{\"time_step_limit\": [0.0, Infinity], \"x\": -Infinity, \"note\": \"NaN, \\\" Infinity\",",
        1,
    );
    for (text, said) in [
        (limit.clone(), None),
        (limit.replacen("falcon_mamba", "mamba2", 1), Some("model_type \"mamba2\"")),
        (config.replacen("0.00001", "NaN", 1).replacen("1e-5", "NaN", 1), Some("layer_norm_epsilon is NaN")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        TINY.write(dir.path());
        fs::write(dir.path().join("config.json"), &text).unwrap();
        match (Checkpoint::open(dir.path()), said) {
            (Ok(checkpoint), None) => drop(checkpoint.tensors().unwrap()),
            (Err(error), Some(said)) => assert!(error.to_string().contains(said), "{error}"),
            (Ok(_), Some(said)) => panic!("{said}: it was opened: {text}"),
            (Err(error), None) => panic!("{error}"),
        }
    }
}

#[test]
fn a_missing_shard_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), TINY.config().to_string()).unwrap();
    let part = |i: u32| format!("model-{i:05}-of-00003.safetensors");
    for i in [1, 3] {
        fs::write(dir.path().join(part(i)), TINY.safetensors()).unwrap();
    }
    let error = says(dir.path(), &[&part(2), "3 shards"]);
    assert!(matches!(error, Error::MissingShard { shards: 3, .. }), "{error}");
    // A tensor in two shards must be identical.
    fs::write(dir.path().join(part(2)), TINY.safetensors()).unwrap();
    Checkpoint::open(dir.path()).unwrap().tensors().unwrap();
    let mut other = TINY.safetensors();
    *other.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join(part(3)), other).unwrap();
    let error = Checkpoint::open(dir.path()).err().unwrap();
    assert!(matches!(error, Error::BadSafetensors { .. }) && error.to_string().contains(&part(2)), "{error}");
}

/// Errors contain the system's message: printing the chain of sources must not repeat it.
#[test]
fn the_systems_message_is_printed_once() {
    let problem = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let all = [
        Error::Io { doing: "open", path: "x".into(), problem: problem() },
        Error::Unreadable { path: "x".into(), problem: problem() },
        Error::BadShaders { path: "x".into(), problem: problem() },
    ];
    for error in &all {
        assert_eq!(error.to_string().matches(&problem().to_string()).count(), 1, "{error}");
        assert!(std::error::Error::source(error).is_none(), "{error}");
    }
    // No other variant holds an error; thiserror makes any field named `source` one.
    let code = include_str!("../src/error.rs").split("impl Error {").next().unwrap();
    assert_eq!(code.matches("std::io::Error").count(), all.len());
    for mark in [" source:", "#[from]", "#[source]", "Box<dyn"] {
        assert!(!code.contains(mark), "{mark}");
    }
}

#[test]
fn missing_and_unreadable_models_and_states_have_their_exit_code() {
    let system = std::io::Error::from_raw_os_error(2).to_string();
    let once = |output: &std::process::Output| {
        let said = stderr(output);
        assert!(said.matches(&system).count() <= 1, "{said}");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("folder.gguf")).unwrap();
    for arguments in [
        vec!["run", "-p", "x", "-m", "/no/such"],
        vec!["run", "-p", "x", "--load-state", "/no/such.state"],
        vec!["run", "-p", "x", "--load-state", &path("")],
        vec!["run", "-p", "x", "--tokenizer", "/no/such.json"],
        vec!["inspect", "-m", &path("folder.gguf")],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {}", stderr(&output));
        once(&output);
    }
    // One of a GGUF file's two shards.
    let mut craft = Craft::of(TINY);
    for (key, value) in [("split.no", 0u32), ("split.count", 2)] {
        craft.set(key, craft::U32, value.to_le_bytes().to_vec());
    }
    fs::write(path("m-00001-of-00002.gguf"), craft.bytes()).unwrap();
    let output = run(&["inspect", "-m", &path("m-00001-of-00002.gguf")]);
    refused(&output, 3, &["m-00002-of-00002.gguf", "2 shards"]);
    once(&output);
}

/// tiny-chat with another generation_config.json.
fn with_defaults(generation: Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(shipped("tiny-chat").join(name), dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("generation_config.json"), generation.to_string()).unwrap();
    dir
}

#[test]
fn bad_values_of_a_model_are_reported_with_their_file() {
    let dir = with_defaults(json!({"repetition_penalty": 0.0, "max_new_tokens": 2}));
    let model = dir.path().to_str().unwrap();
    let bad = run(&["run", "-m", model, "-p", "Once", "-n", "0"]);
    refused(&bad, 3, &["generation_config.json", "repetition_penalty is 0.0", "above 0"]);
    // Commands that do not sample do not need it.
    stdout(&run(&["inspect", "-m", model]));
    if no_gpu("bad_values_of_a_model_are_reported_with_their_file") {
        return;
    }
    stdout(&run(&["run", "-m", model, "-p", "Once", "--repeat-penalty", "1"]));
}

#[test]
fn a_gguf_file_keeps_the_settings_of_its_checkpoint() {
    let said = json!({
        "temperature": 0.7, "top_k": 7, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2, "max_new_tokens": 12,
        "eos_token_id": [0, 2],
    });
    let (dir, out) = (with_defaults(said), tempfile::tempdir().unwrap());
    let options = ExportOptions { weights: WeightFormat::Bf16, existing: Existing::Refuse };
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let values = *checkpoint.defaults();
    let all = SamplingDefaults {
        temperature: Some(0.7),
        top_k: Some(7),
        top_p: Some(0.9),
        min_p: Some(0.02),
        repeat_penalty: Some(1.2),
        max_tokens: Some(12),
    };
    assert_eq!(values, all);
    let file = out.path().join("x.gguf");
    checkpoint.export(&file, options, &mut |_| ()).unwrap();
    let gguf = Checkpoint::open(&file).unwrap();
    assert_eq!(*gguf.defaults(), values);
    let folder = out.path().join("folder");
    gguf.export(&folder, options, &mut |_| ()).unwrap();
    assert_eq!(*Checkpoint::open(&folder).unwrap().defaults(), values);
    // A greedy model stays greedy.
    let greedy = with_defaults(json!({"do_sample": false, "temperature": 0.7}));
    let file = out.path().join("greedy.gguf");
    Checkpoint::open(greedy.path()).unwrap().export(&file, options, &mut |_| ()).unwrap();
    assert_eq!(Checkpoint::open(&file).unwrap().defaults().temperature, Some(0.0));
}

#[test]
fn a_duplicate_head_is_written_once_and_marked_as_tied() {
    let shape = common::Shape { tied: true, ..TINY };
    let mut tensors = shape.tensors();
    tensors.push(("lm_head.weight".to_owned(), tensors[0].1.clone(), tensors[0].2.clone()));
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = shape.config();
    config["tie_word_embeddings"] = json!(false);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), shape.safetensors_of(tensors)).unwrap();
    let options = ExportOptions { weights: WeightFormat::F32, existing: Existing::Refuse };
    let written = out.path().join("out");
    Checkpoint::open(dir.path()).unwrap().export(&written, options, &mut |_| ()).unwrap();
    let again = Checkpoint::open(&written).unwrap();
    assert!(again.config().tied);
    assert!(again.tensors().unwrap().head.is_none());
}

#[test]
fn inspect_lists_unused_tensors_and_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, mut tensors) = (TINY.config(), TINY.tensors());
    config["initializer_range"] = json!(0.1);
    config["novelty"] = json!(3);
    tensors.push(("backbone.rotary_emb.inv_freq".to_owned(), vec![2], vec![1.0; 2]));
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), TINY.safetensors_of(tensors)).unwrap();
    let model = dir.path().to_str().unwrap();
    let output = run(&["inspect", "-m", model]);
    let text = stdout(&output);
    for line in [
        "tensor backbone.rotary_emb.inv_freq: rotary position angles",
        "keys without effect: initializer_range",
        "unknown keys, ignored: novelty",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert!(stderr(&output).contains("ignoring unknown keys: novelty"));
    let json: Value = serde_json::from_str(&stdout(&run(&["inspect", "-m", model, "--json"]))).unwrap();
    assert_eq!(json["unused"]["tensors"][0]["name"], "backbone.rotary_emb.inv_freq");
    assert_eq!(json["unused"]["unknown_keys"], json!(["novelty"]));
}

#[test]
fn variables_that_hide_adapters_are_named() {
    let with = |variable: &str, value: &str| {
        let mut command = peregrine();
        command.args(["run", "-p", "Once", "-n", "1"]).env(variable, value);
        command.output().unwrap()
    };
    refused(&with("WGPU_BACKEND", "foo"), 2, &["WGPU_BACKEND=\"foo\"", "vulkan"]);
    refused(&with("WGPU_BACKEND", "webgpu"), 4, &["no GPU adapter found", "WGPU_BACKEND=webgpu"]);
    if no_gpu("variables_that_hide_adapters_are_named") {
        return;
    }
    stdout(&with("WGPU_BACKEND", ""));
    let listed = stdout(&run(&["devices"]));
    for name in ["WGPU_BACKEND", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        assert!(listed.contains(name), "{listed}");
    }
    // No line starts with "error" unless something is wrong.
    let without_desktop =
        peregrine().args(["run", "-p", "Once", "-n", "1"]).env_remove("XDG_RUNTIME_DIR").output().unwrap();
    stdout(&without_desktop);
    assert!(!stderr(&without_desktop).contains("error"), "{}", stderr(&without_desktop));
}
