//! Checkpoint files: valid, unusual, damaged and hostile. Every defect has its own error.

mod common;

use common::{TINY, fixture, mamba, shipped};
use peregrine::Error;
use peregrine::kernels::case::Random;
use peregrine::model::{Architecture, Family, Mamba};
use peregrine::runtime::Checkpoint;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A small valid checkpoint to corrupt.
fn sound() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    TINY.write(dir.path());
    dir
}

/// Opens a checkpoint and reads every tensor.
fn open(dir: &Path) -> Result<(), Error> {
    Checkpoint::open(dir)?.tensors().map(|_| ())
}

fn failure(dir: &Path) -> Error {
    let error = open(dir).expect_err("it should be refused");
    let said = error.to_string();
    assert!(said.len() > 20, "{said}");
    error
}

fn with_config(change: impl FnOnce(&mut Value)) -> TempDir {
    let dir = sound();
    let mut config = TINY.config();
    change(&mut config);
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

#[test]
fn valid_checkpoints_open() {
    let plain = ["falcon-tiny", "falcon-tiny-bf16", "falcon-tiny-f16", "mamba-tiny"];
    let quantized = ["falcon-tiny-nf4", "falcon-tiny-fp4", "falcon-tiny-int8", "falcon-wide-nf4"];
    for dir in plain.into_iter().chain(quantized).map(fixture) {
        open(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    }
    for dir in ["tiny-chat", "induction-heads"].map(shipped) {
        open(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    }
    open(sound().path()).unwrap();
}

#[test]
fn the_built_in_model_is_the_shipped_one() {
    let compiled = Checkpoint::embedded().unwrap();
    let folder = Checkpoint::open(shipped("tiny-chat")).unwrap();
    assert_eq!(compiled.config(), folder.config());
    assert_eq!(compiled.eos(), folder.eos());
    assert_eq!(compiled.defaults(), folder.defaults());
    assert_eq!(compiled.config().parameters(false), 2_800_320);
    let (a, b) = (compiled.tensors().unwrap(), folder.tensors().unwrap());
    assert!(a.embedding.bytes == b.embedding.bytes && a.bytes() == b.bytes());
}

#[test]
fn quirks_of_published_configs_are_handled() {
    let config = |dir: &Path| Checkpoint::open(dir).unwrap().config().clone();
    // expand 16 beside intermediate_size 128, no mixer_rms_eps.
    let falcon = config(&fixture("falcon-tiny"));
    let sizes = mamba(&falcon);
    assert_eq!((sizes.inner, sizes.family), (128, Family::FalconMamba { mixer_rms_eps: 1e-6 }));
    assert_eq!(mamba(&config(&fixture("falcon-tiny-bf16"))).family, Family::FalconMamba { mixer_rms_eps: 1e-5 });
    // Without intermediate_size the weights define it. time_step_rank "auto" is ceil(hidden / 16), here 1, which they contradict.
    let absent = with_config(|c| {
        c.as_object_mut().unwrap().remove("intermediate_size");
        c["expand"] = json!(16);
    });
    assert_eq!(mamba(&config(absent.path())).inner, TINY.inner);
    let auto = with_config(|c| c["time_step_rank"] = json!("auto"));
    assert!(matches!(failure(auto.path()), Error::WrongShape { .. }));
    // A Falcon Mamba with model_type mamba.
    let named = with_config(|c| {
        c["model_type"] = json!("mamba");
        c["architectures"] = json!(["FalconMambaForCausalLM"]);
    });
    assert!(matches!(mamba(&config(named.path())).family, Family::FalconMamba { .. }));
    // Keys that are null are absent; stale d_model beside hidden_size is ignored.
    let nulls = with_config(|c| {
        c["mixer_rms_eps"] = Value::Null;
        c["d_model"] = json!(2048);
        c["bos_token_id"] = Value::Null;
    });
    assert_eq!(config(nulls.path()).hidden, TINY.hidden);
    // The published shapes have the published parameter counts.
    let falcon_7b = peregrine::model::Config {
        architecture: Architecture::Mamba(Mamba { inner: 8192, state: 16, dt_rank: 256, ..sizes }),
        vocab: 65024,
        hidden: 4096,
        layers: 64,
        ..falcon
    };
    assert_eq!(falcon_7b.parameters(false), 7_272_665_088);
    let mamba_130m = peregrine::model::Config {
        architecture: Architecture::Mamba(Mamba {
            family: Family::Mamba,
            inner: 1536,
            state: 16,
            dt_rank: 48,
            ..sizes
        }),
        vocab: 50280,
        hidden: 768,
        layers: 24,
        ..falcon_7b
    };
    assert_eq!(mamba_130m.parameters(true), 129_135_360);
}

#[test]
fn eos_ids_come_from_the_generation_config_first() {
    assert_eq!(Checkpoint::open(shipped("tiny-chat")).unwrap().eos(), [0, 2]);
    // falcon-tiny: 11, and <|im_end|> because it has a chat template.
    assert_eq!(Checkpoint::open(fixture("falcon-tiny")).unwrap().eos(), [11, 299]);
    let dir = with_config(|c| c["eos_token_id"] = json!(4));
    assert_eq!(Checkpoint::open(dir.path()).unwrap().eos(), [4]);
    fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [7, 5]}"#).unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().eos(), [5, 7]);
}

#[test]
fn missing_files_and_tensors_are_named() {
    assert!(matches!(failure(Path::new("/no/such/model")), Error::ModelNotFound { .. }));
    let file = sound();
    assert!(matches!(failure(&file.path().join("config.json")), Error::ModelNotFound { .. }));
    for missing in ["config.json", "model.safetensors"] {
        let dir = sound();
        fs::remove_file(dir.path().join(missing)).unwrap();
        let error = failure(dir.path());
        assert!(matches!(&error, Error::IncompleteCheckpoint { missing: m, .. } if m == missing), "{error}");
    }
    let checkpoint = Checkpoint::open(file.path()).unwrap();
    let error = checkpoint.tokenizer().err().unwrap();
    assert!(matches!(&error, Error::IncompleteCheckpoint { missing, .. } if missing == "tokenizer.json"), "{error}");
    let error = checkpoint.render(&[], true).unwrap_err();
    assert!(matches!(error, Error::Template { .. }), "{error}");
}

#[test]
#[cfg(not(feature = "pickle"))]
fn a_pickle_is_refused_with_the_command_that_converts_it() {
    let error = failure(&fixture("mamba-tiny-original"));
    assert!(matches!(error, Error::PickleOnly { .. }));
    let said = error.to_string();
    assert!(said.contains("torch.load") && said.contains("mamba-tiny-original/"), "{said}");
}

#[test]
fn shards_are_found_by_their_index() {
    // Two shards as published, and the same through symbolic links, as in the Hugging Face cache.
    let source = fixture("falcon-tiny");
    let dir = tempfile::tempdir().unwrap();
    let names = fs::read_dir(&source).unwrap().map(|e| e.unwrap().file_name());
    let names: Vec<_> = names.filter(|n| !n.to_string_lossy().starts_with("expected")).collect();
    for name in &names {
        #[cfg(unix)]
        std::os::unix::fs::symlink(source.join(name), dir.path().join(name)).unwrap();
        #[cfg(not(unix))]
        fs::copy(source.join(name), dir.path().join(name)).unwrap();
    }
    open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let error = failure(dir.path());
    assert!(error.to_string().contains("model-00002-of-00002.safetensors"), "{error}");
    // Without an index every file counts.
    let plain = tempfile::tempdir().unwrap();
    fs::write(plain.path().join("config.json"), TINY.config().to_string()).unwrap();
    fs::write(plain.path().join("model-00001-of-00001.safetensors"), TINY.safetensors()).unwrap();
    open(plain.path()).unwrap();
}

#[test]
fn an_index_that_leaves_the_folder_is_rejected() {
    let dir = sound();
    let outside = dir.path().join("sub");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("config.json"), TINY.config().to_string()).unwrap();
    let absolute = dir.path().join("model.safetensors");
    for name in ["../model.safetensors", absolute.to_str().unwrap(), "a/../../model.safetensors", "C:\\x", "", "."] {
        let index = json!({"weight_map": {"backbone.norm_f.weight": name}});
        fs::write(outside.join("model.safetensors.index.json"), index.to_string()).unwrap();
        let error = failure(&outside);
        assert!(matches!(error, Error::UnsafeShard { .. }), "{name:?}: {error}");
    }
    for bad in ["{", "{}", r#"{"weight_map": 3}"#, r#"{"weight_map": {"x": 3}}"#, r#"{"weight_map": {}}"#, "[]"] {
        fs::write(outside.join("model.safetensors.index.json"), bad).unwrap();
        assert!(matches!(failure(&outside), Error::BadJson { .. }), "{bad}");
    }
}

#[test]
fn damaged_safetensors_are_refused() {
    let good = TINY.safetensors();
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(good[8..8 + header].to_vec()).unwrap();
    let with_header = |text: String| {
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend(text.as_bytes());
        file.extend(&good[8 + header..]);
        file
    };
    let longer = |n: u64| [&n.to_le_bytes()[..], &good[8..]].concat();
    let cases = [
        ("empty", vec![]),
        ("seven bytes", good[..7].to_vec()),
        ("cut in the header", good[..8 + header / 2].to_vec()),
        ("cut in the data", good[..good.len() - 1].to_vec()),
        ("something after the data", [&good[..], &[0]].concat()),
        ("a header of 2^63 bytes", longer(1 << 63)),
        ("a header as long as the file", longer(good.len() as u64)),
        ("a header over the limit", longer(200 << 20)),
        ("no JSON", with_header("x".repeat(header))),
        ("offsets past the end", with_header(text.replacen("\"data_offsets\":[0,", "\"data_offsets\":[99999999,", 1))),
        (
            "a shape that is too large",
            with_header(text.replacen("\"shape\":[", "\"shape\":[4294967295,4294967295,", 1)),
        ),
        ("a negative offset", with_header(text.replacen("\"data_offsets\":[0,", "\"data_offsets\":[-4,", 1))),
        ("an unknown type", with_header(text.replacen("F32", "Q99", 1))),
        ("bytes of nothing", (0..=255).collect()),
    ];
    for (what, bytes) in cases {
        let dir = sound();
        fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        let error = failure(dir.path());
        assert!(matches!(error, Error::BadSafetensors { .. }), "{what}: {error}");
        assert!(error.to_string().contains("model.safetensors"), "{what}: {error}");
    }
}

#[test]
fn weights_that_contradict_the_config_are_rejected_by_name() {
    for (key, value) in
        [("hidden_size", 7), ("state_size", 4), ("vocab_size", 12), ("conv_kernel", 3), ("intermediate_size", 11)]
    {
        let error = failure(with_config(|c| c[key] = json!(value)).path());
        assert!(matches!(error, Error::WrongShape { .. }), "{key}: {error}");
        assert!(error.to_string().contains("config.json"), "{error}");
    }
    let error = failure(with_config(|c| c["num_hidden_layers"] = json!(3)).path());
    assert!(matches!(&error, Error::MissingTensor { tensor, .. } if tensor.contains("layers.2.")), "{error}");

    let good = TINY.safetensors();
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(good[8..8 + header].to_vec()).unwrap().replacen("F32", "I32", 1);
    let dir = sound();
    fs::write(dir.path().join("model.safetensors"), [&good[..8], text.as_bytes(), &good[8 + header..]].concat())
        .unwrap();
    let error = failure(dir.path());
    assert!(matches!(&error, Error::WrongDtype { found, .. } if found == "I32"), "{error}");
}

#[test]
fn unsupported_models_are_rejected_by_name() {
    let cases: [(&str, Value, &str); 7] = [
        ("model_type", json!("llama"), "llama"),
        ("model_type", json!("mamba2"), "mamba2"),
        ("model_type", Value::Null, "without model_type"),
        ("hidden_act", json!("gelu"), "gelu"),
        ("use_bias", json!(true), "use_bias"),
        ("state_size", json!(65), "state size of 65"),
        ("conv_kernel", json!(17), "conv kernel of 17"),
    ];
    for (key, value, named) in cases {
        let error = failure(with_config(|c| c[key] = value.clone()).path());
        assert!(matches!(error, Error::Unsupported { .. }), "{key} {value}: {error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    for (key, value) in
        [("rms_norm", json!(false)), ("ssm_cfg", json!({"layer": "Mamba2"})), ("attn_layer_idx", json!([3]))]
    {
        let mut config = json!({"d_model": 6, "n_layer": 2, "vocab_size": 11});
        config[key] = value;
        let dir = with_config(|c| *c = config);
        assert!(matches!(failure(dir.path()), Error::Unsupported { .. }), "{key}");
    }
}

#[test]
fn impossible_sizes_are_rejected() {
    for key in [
        "hidden_size",
        "vocab_size",
        "num_hidden_layers",
        "state_size",
        "conv_kernel",
        "intermediate_size",
        "time_step_rank",
    ] {
        for value in [json!(0), json!(-1), json!(1.5), json!("8"), json!(1u64 << 40), json!([8]), json!(u64::MAX)] {
            let error = failure(with_config(|c| c[key] = value.clone()).path());
            assert!(matches!(error, Error::BadConfig { .. }), "{key} {value}: {error}");
            assert!(error.to_string().contains(key), "{error}");
        }
    }
    for value in [json!("1e-5"), json!(-1.0), json!(2)] {
        assert!(matches!(failure(with_config(|c| c["layer_norm_epsilon"] = value).path()), Error::BadConfig { .. }));
    }
    for config in ["", "{", "[1, 2", "\u{0}"] {
        let dir = sound();
        fs::write(dir.path().join("config.json"), config).unwrap();
        assert!(matches!(failure(dir.path()), Error::BadJson { .. }), "{config:?}");
    }
    for config in ["[]", "3", "null"] {
        let dir = sound();
        fs::write(dir.path().join("config.json"), config).unwrap();
        assert!(matches!(failure(dir.path()), Error::BadConfig { .. }), "{config:?}");
    }
}

/// A few random changes to a valid file: bytes flipped, duplicated, dropped, truncated.
fn mutate(good: &[u8], reach: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(reach.min(bytes.len()).max(1));
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.bits() as u8,
            2 => bytes.truncate(at),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => bytes.insert(at.min(bytes.len()), b"0129[]{}\",-eE\0"[random.below(14)]),
            _ if at < bytes.len() => bytes[at] = b"0129[]{}\",-eE "[random.below(14)],
            _ => {}
        }
    }
    bytes
}

/// Opens a checkpoint with its tokenizer and template.
fn with_all_parts(dir: &Path) -> Result<(), Error> {
    let checkpoint = Checkpoint::open(dir)?;
    if dir.join("tokenizer.json").exists() {
        checkpoint.tokenizer()?;
    }
    checkpoint.template_problem().map_or(Ok(()), Err)?;
    checkpoint.tensors().map(|_| ())
}

#[test]
fn mutated_files_never_panic() {
    let random = &mut Random::new(20_261_122);
    let weights = TINY.safetensors();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let tokenizer = fs::read(fixture("falcon-tiny").join("tokenizer.json")).unwrap();
    let template = fs::read(fixture("falcon-tiny").join("tokenizer_config.json")).unwrap();
    let index =
        r#"{"metadata": {"total_size": 1}, "weight_map": {"a": "model-1.safetensors", "b": "x/y.safetensors"}}"#;
    let config = TINY.config().to_string();
    let files: [(&str, &[u8], usize, usize); 5] = [
        ("model.safetensors", &weights, header, 3000),
        ("config.json", config.as_bytes(), usize::MAX, 3000),
        ("model.safetensors.index.json", index.as_bytes(), usize::MAX, 1000),
        ("tokenizer.json", &tokenizer, usize::MAX, 300),
        ("tokenizer_config.json", &template, usize::MAX, 300),
    ];
    let dir = sound();
    for (name, good, reach, times) in files {
        let path = dir.path().join(name);
        if name.ends_with("index.json") {
            fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        }
        let (mut opened, mut refused) = (0, 0);
        for _ in 0..times {
            fs::write(&path, mutate(good, reach, random)).unwrap();
            match with_all_parts(dir.path()) {
                Ok(()) => opened += 1,
                Err(_) => refused += 1,
            }
        }
        eprintln!("{name}: {opened} opened, {refused} refused");
        assert!(refused > times / 10, "{name}: the mutations do nothing");
        fs::remove_file(&path).unwrap();
        TINY.write(dir.path());
    }
}
