//! GGUF files: metadata, weights, and every defect.

mod common;
#[path = "common/craft.rs"]
mod craft;

use common::{Expected, TINY, close, fixture, gpu, greedy, logits, mamba, no_gpu};
use craft::{ARRAY, BOOL, Craft, F32, STRING, U32, array, string};
use peregrine::Error;
use peregrine::format::TensorSource;
use peregrine::kernels::case::Random;
use peregrine::model::reference::Reference;
use peregrine::model::{Config, Family, Forward, ForwardOptions, ModelTensors};
use peregrine::runtime::Checkpoint;
use peregrine::text::{Message, Specials};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILES: [&str; 6] = ["tiny-F16", "tiny-BF16", "tiny-Q8_0", "tiny-Q4_0", "wide-Q4_K_M", "wide-Q6_K"];
const LOGITS: f64 = 3e-4;

fn file(name: &str) -> PathBuf {
    fixture("gguf").join(format!("{name}.gguf"))
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn expected(name: &str) -> Expected {
    Expected::read(&fixture("gguf").join(format!("{name}.expected.safetensors")))
}

/// The tensors of a file.
fn source(name: &str) -> TensorSource {
    TensorSource::open_gguf(&file(name)).unwrap()
}

#[test]
fn shapes_and_text_come_from_the_keys() {
    for name in FILES {
        let checkpoint = open(name);
        let config = checkpoint.config();
        let wide = name.starts_with("wide");
        assert_eq!(mamba(config).family, Family::FalconMamba { mixer_rms_eps: 1e-6 }, "{name}");
        let (vocab, hidden, inner, dt_rank, layers) = if wide { (272, 256, 512, 256, 1) } else { (301, 64, 128, 8, 3) };
        assert_eq!(
            (config.vocab, config.hidden, mamba(config).inner, mamba(config).dt_rank, config.layers),
            (vocab, hidden, inner, dt_rank, layers),
            "{name}"
        );
        let sizes = mamba(config);
        assert_eq!((sizes.state, sizes.conv_kernel, config.norm_eps, sizes.conv_bias), (16, 4, 1e-5, true));
        let tensors = checkpoint.tensors().unwrap();
        assert!(tensors.head.is_some(), "{name}");
        let matrices: Vec<String> = tensors.matrices().map(|tensor| tensor.stored_as()).collect();
        let base = match name.split_once('-').unwrap().1 {
            "Q4_K_M" => "q4_K",
            "Q6_K" => "q6_K",
            other => &other.to_lowercase(),
        };
        assert!(matrices.iter().filter(|matrix| *matrix == base).count() >= matrices.len() / 2, "{name}: {matrices:?}");
        // The same parameters in fewer bytes.
        assert_eq!(
            config.parameters(false),
            open(if wide { "wide-Q6_K" } else { "tiny-F16" }).config().parameters(false)
        );
    }
    let checkpoint = open("tiny-F16");
    assert_eq!(checkpoint.eos(), [11, 299]);
    assert_eq!(checkpoint.ids_without_token(), [300]);
    assert!(checkpoint.has_template());
}

#[test]
fn the_tokenizer_in_gguf_metadata_equals_that_of_the_folder() {
    let (of_file, of_folder) = (open("tiny-F16"), Checkpoint::open(fixture("falcon-tiny")).unwrap());
    let cases = fs::read(fixture("falcon-tiny").join("tokenizer_cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_slice(&cases).unwrap();
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    };
    let tokenizer = of_file.tokenizer().unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&ids(&case["ids"])), case["decoded"].as_str().unwrap(), "{text:?}");
    }
    for chat in cases["chat"].as_array().unwrap() {
        let turns = chat["messages"].as_array().unwrap();
        let messages: Vec<Message> =
            turns.iter().map(|m| Message::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap())).collect();
        let spans = of_file.render(&messages, chat["add_generation_prompt"].as_bool().unwrap()).unwrap();
        assert_eq!(of_file.encode(&spans).unwrap(), ids(&chat["ids"]));
    }
    let folder = of_folder.tokenizer().unwrap();
    assert_eq!(tokenizer.special_texts().len(), folder.special_texts().len());
}

#[test]
fn weights_are_decoded_bit_for_bit() {
    let mut compared = 0;
    for name in FILES {
        let (expected, source) = (expected(name), source(name));
        for key in expected.names().filter(|key| key.starts_with("dequant_first16rows.")) {
            let tensor_name = key.strip_prefix("dequant_first16rows.").unwrap();
            let tensor = source.get(tensor_name, &source.shape(tensor_name).unwrap()).unwrap();
            let wanted = expected.f32(key);
            let mut got = vec![0.0; wanted.len()];
            tensor.decode_rows(0..wanted.len() / tensor.columns(), &mut got);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&got), bits(&wanted), "{name} {tensor_name}");
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared}");
}

/// Logits of a prompt and the greedy tokens after it, by the CPU reference.
fn by_reference(checkpoint: &Checkpoint, ids: &[u32], then: usize) -> (Vec<f32>, Vec<u32>) {
    let reference = Reference::new(checkpoint.config(), &checkpoint.tensors().unwrap());
    let mut state = reference.start();
    let vocab = checkpoint.config().vocab;
    let all = reference.forward(ids, &mut state, |_, _| {}).unwrap();
    let best = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32;
    let mut greedy = vec![best(&all[all.len() - vocab..])];
    while greedy.len() < then {
        let next = reference.forward(&greedy[greedy.len() - 1..], &mut state, |_, _| {}).unwrap();
        greedy.push(best(&next));
    }
    (all.iter().map(|v| *v as f32).collect(), greedy)
}

#[test]
fn the_reference_gives_the_expected_logits_of_every_file() {
    for name in FILES {
        let (checkpoint, expected) = (open(name), expected(name));
        for length in ["5", "64"] {
            let (got, greedy) = by_reference(&checkpoint, &expected.ids(&format!("ids.{length}")), 32);
            let what = format!("{name} logits.{length}");
            close(&what, &got, expected.get(&format!("logits.{length}")), |_| LOGITS);
            if expected.has(&format!("greedy.{length}")) {
                assert_eq!(greedy, expected.ids(&format!("greedy.{length}")), "{name}");
            }
        }
    }
}

#[test]
fn the_device_gives_the_expected_logits_of_every_file() {
    if no_gpu("the_device_gives_the_expected_logits_of_every_file") {
        return;
    }
    let gpu = gpu();
    for name in FILES {
        let (checkpoint, expected) = (open(name), expected(name));
        let options = ForwardOptions::default().chunk(32);
        let tensors = checkpoint.tensors().unwrap();
        let mut forward = Forward::load(&gpu, checkpoint.config(), &tensors, options, &mut |_| {}).unwrap();
        let ids = expected.ids("ids.64");
        let got = logits(&mut forward, &ids);
        let worst = close(name, &got, expected.get("logits.64"), |_| LOGITS);
        eprintln!("reached | {name} | {} | logits {worst:.1e} |", gpu.info().driver);
        assert_eq!(greedy(&mut forward, &ids, 32), expected.ids("greedy.64"), "{name}");
    }
}

#[test]
fn another_epsilon_is_another_model() {
    for name in ["tiny-F16", "wide-Q4_K_M"] {
        let (mut checkpoint, expected) = (open(name), expected(name));
        let ids = expected.ids("ids.64");
        checkpoint.set_mixer_rms_eps(1e-5).unwrap();
        let (got, _) = by_reference(&checkpoint, &ids, 1);
        close(name, &got, expected.get("logits_eps1e-5.64"), |_| LOGITS);
        let off = got.iter().zip(expected.get("logits.64")).map(|(g, e)| (f64::from(*g) - e).abs());
        assert!(off.fold(0.0, f64::max) > 0.1, "{name}: the epsilon changes nothing");
    }
    let mut plain = Checkpoint::open(fixture("mamba-tiny")).unwrap();
    for (checkpoint, eps) in [(&mut plain, 1e-5), (&mut open("tiny-F16"), -1.0), (&mut open("tiny-F16"), f32::NAN)] {
        let error = checkpoint.set_mixer_rms_eps(eps).unwrap_err();
        assert!(matches!(&error, Error::BadSetting { name, .. } if *name == "mixer_rms_eps"), "{error}");
    }
}

/// Opens bytes as a model and decodes a row of each tensor.
fn opened(bytes: &[u8]) -> Result<Config, Error> {
    let source = Arc::new(TensorSource::from_bytes("made.gguf", bytes.to_vec())?);
    let config = Config::from_gguf(source.metadata().expect("it is a GGUF file"), &source)?;
    let tensors = ModelTensors::find(&config, &source)?;
    for (_, tensor) in tensors.all() {
        let mut values = vec![0.0; tensor.columns()];
        tensor.decode_rows(0..1, &mut values);
        tensor.encode_rows(0..1, tensor.held_as(), &mut vec![0; tensor.held_as().row_bytes(tensor.columns())]);
    }
    Ok(config)
}

#[test]
fn a_written_file_is_the_model_it_was_made_from() {
    let bytes = Craft::of(TINY).bytes();
    let config = opened(&bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    TINY.write(dir.path());
    let folder = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(&config, folder.config());
    fs::write(dir.path().join("made.gguf"), &bytes).unwrap();
    let made = Checkpoint::open(dir.path().join("made.gguf")).unwrap();
    let ids = [1, 2, 3, 10, 0];
    let ((a, _), (b, _)) = (by_reference(&made, &ids, 1), by_reference(&folder, &ids, 1));
    // A is rounded once more when written.
    close("made", &a, &b.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), |_| 1e-5);
    // Version 2 is equal; a tied head is left out; peregrine's own key holds the epsilon.
    let mut craft = Craft::of(common::Shape { tied: true, ..TINY });
    craft.version = 2;
    craft.set("peregrine.mixer_rms_eps", F32, 1e-3f32.to_le_bytes().to_vec());
    assert_eq!(mamba(&opened(&craft.bytes()).unwrap()).family, Family::FalconMamba { mixer_rms_eps: 1e-3 });
    craft.set("mamba.ssm.dt_b_c_rms", BOOL, vec![0]);
    assert_eq!(mamba(&opened(&craft.bytes()).unwrap()).family, Family::Mamba);
    craft.keys.retain(|(key, ..)| key != "mamba.ssm.dt_b_c_rms");
    assert_eq!(mamba(&opened(&craft.bytes()).unwrap()).family, Family::Mamba);
    // Another alignment.
    let mut craft = Craft::of(TINY);
    craft.set("general.alignment", U32, 8u32.to_le_bytes().to_vec());
    craft.alignment = 8;
    opened(&craft.bytes()).unwrap();
}

/// One file for each error message, with words of it.
fn hostile() -> Vec<(&'static str, Craft)> {
    let mut all: Vec<(&'static str, Craft)> = Vec::new();
    let mut with = |said: &'static str, change: &dyn Fn(&mut Craft)| {
        let mut craft = Craft::of(TINY);
        change(&mut craft);
        all.push((said, craft));
    };
    with("it does not begin with GGUF", &|c| c.magic = b"GGUX".to_vec());
    with("it is big endian", &|c| c.version = 3u32.swap_bytes());
    with("it is of version 1", &|c| c.version = 1);
    with("it is of version 4", &|c| c.version = 4);
    with("the list of keys at byte", &|c| c.counts[1] = Some(1 << 60));
    with("the list of tensors at byte", &|c| c.counts[0] = Some(u64::MAX));
    with("it has the key general.architecture twice", &|c| c.keys.push(c.keys[0].clone()));
    with("has the type 13, which GGUF does not know", &|c| c.set("x", 13, vec![0; 8]));
    with("is an array of type 77, which GGUF does not know", &|c| c.set("x", ARRAY, array(77, &[])));
    with("only", &|c| c.set("x", STRING, u64::MAX.to_le_bytes().to_vec()));
    with("is not UTF-8 text", &|c| c.set("x", STRING, [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat()));
    for kind in [STRING, ARRAY, 0, 12] {
        with("takes 1152921504606846976", &move |c| {
            c.set("x", ARRAY, [&kind.to_le_bytes()[..], &(1u64 << 60).to_le_bytes()].concat());
        });
    }
    with("more than 8 arrays in one another", &|c| {
        let nested = (0..9).fold(array(U32, &[]), |inner, _| array(ARRAY, &[inner]));
        c.set("x", ARRAY, nested);
    });
    for wrong in [0u32, 3, 48, 1 << 30] {
        with("must be a power of two", &move |c| c.set("general.alignment", U32, wrong.to_le_bytes().to_vec()));
    }
    with("general.alignment is \"32\", it must be a whole number", &|c| {
        c.set("general.alignment", STRING, string("32"))
    });
    with("has no name", &|c| c.first("ssm_d").name.clear());
    with("takes 9000", &|c| c.set("x", STRING, 9000u64.to_le_bytes().to_vec()));
    with("has 0 dimensions", &|c| c.first("ssm_d").sizes.clear());
    with("has 5 dimensions", &|c| c.first("ssm_d").sizes = vec![10, 1, 1, 1, 1]);
    with("which cannot be", &|c| c.first("ssm_d").sizes = vec![0]);
    with("which is too large", &|c| c.first("ssm_d").sizes = vec![1 << 40, 1 << 40]);
    with("past the end of the file", &|c| c.first("ssm_d").sizes = vec![1 << 40]);
    with("past the end of the file", &|c| c.first("ssm_d").offset = u64::MAX - 31);
    with("past the end of the file", &|c| c.data.truncate(c.data.len() - 64));
    with("is no multiple of 32", &|c| c.first("ssm_d").offset += 4);
    with("share bytes", &|c| c.first("ssm_d").offset = c.first("ssm_a").offset);
    with("but its blocks have 32 values", &|c| c.first("ssm_d").kind = 8);
    with("it has blk.1.ssm_d twice", &|c| c.first("ssm_d").name = "blk.1.ssm_d".to_owned());
    with("split.no is 3, of a split.count of 2", &|c| {
        c.set("split.no", U32, 3u32.to_le_bytes().to_vec());
        c.set("split.count", U32, 2u32.to_le_bytes().to_vec());
    });
    with("it is one of 2 parts", &|c| c.set("split.count", U32, 2u32.to_le_bytes().to_vec()));
    with("mamba.block_count is \"two\", it must be a whole number", &|c| {
        c.set("mamba.block_count", STRING, string("two"))
    });
    with("mamba.ssm.dt_b_c_rms is 1, it must be true or false", &|c| {
        c.set("mamba.ssm.dt_b_c_rms", U32, 1u32.to_le_bytes().to_vec());
    });
    all
}

impl Craft {
    /// A tensor of the first layer.
    fn first(&mut self, name: &str) -> &mut craft::Info {
        self.tensor(&format!("blk.0.{name}"))
    }
}

#[test]
fn every_wrong_file_has_its_own_error_message() {
    let all = hostile();
    for (said, craft) in &all {
        let error = opened(&craft.bytes()).expect_err(said);
        if craft.magic == b"GGUF" {
            assert!(matches!(error, Error::BadGguf { .. }), "{said}: {error}");
            assert!(error.to_string().contains(said) && error.to_string().contains("made.gguf"), "{said}: {error}");
        }
    }
    // The error names the file's path.
    let dir = tempfile::tempdir().unwrap();
    for (said, craft) in all.iter().filter(|(_, craft)| craft.magic != b"GGUF") {
        fs::write(dir.path().join("x.gguf"), craft.bytes()).unwrap();
        let error = Checkpoint::open(dir.path().join("x.gguf")).err().unwrap();
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}

#[test]
fn bad_metadata_values_are_rejected_by_name() {
    let refused = |change: &dyn Fn(&mut Craft)| {
        let mut craft = Craft::of(TINY);
        change(&mut craft);
        opened(&craft.bytes()).unwrap_err()
    };
    let error = refused(&|c| c.set("general.architecture", STRING, string("mamba2")));
    assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("mamba2")), "{error}");
    let error = refused(&|c| c.keys.retain(|(key, ..)| key != "general.architecture"));
    assert!(matches!(&error, Error::Unsupported { .. }), "{error}");
    for key in ["embedding_length", "ssm.inner_size", "ssm.state_size", "ssm.conv_kernel", "block_count"] {
        let key = format!("mamba.{key}");
        let error = refused(&|c| c.keys.retain(|(name, ..)| *name != key));
        assert!(matches!(&error, Error::BadConfig { problem, .. } if problem.contains(&key)), "{error}");
        for value in [0u32, u32::MAX] {
            let error = refused(&|c| c.set(&key, U32, value.to_le_bytes().to_vec()));
            assert!(matches!(&error, Error::BadConfig { problem, .. } if problem.contains(&key)), "{error}");
        }
        let error = refused(&|c| c.set(&key, U32, 60u32.to_le_bytes().to_vec()));
        let known = matches!(error, Error::WrongShape { .. } | Error::MissingTensor { .. } | Error::Unsupported { .. });
        assert!(known, "{key}: {error}");
    }
    for eps in [-1.0f32, f32::NAN, 2.0] {
        let error = refused(&|c| c.set("peregrine.mixer_rms_eps", F32, eps.to_le_bytes().to_vec()));
        assert!(matches!(error, Error::BadConfig { .. }), "{error}");
    }
    // Unsupported types are named with their tensor.
    for (kind, name) in [(16, "IQ2_XXS"), (28, "F64"), (99, "type 99")] {
        let error = refused(&|c| c.first("ssm_d").kind = kind);
        assert!(
            matches!(&error, Error::WrongDtype { tensor, found, .. } if tensor == "blk.0.ssm_d" && found == name),
            "{error}"
        );
    }
    let error = refused(&|c| c.tensors.retain(|info| info.name != "blk.1.ssm_a"));
    assert!(matches!(&error, Error::MissingTensor { tensor, .. } if tensor == "blk.1.ssm_a"), "{error}");
    let error = refused(&|c| c.tensors.retain(|info| info.name != "token_embd.weight"));
    assert!(matches!(&error, Error::MissingTensor { tensor, .. } if tensor == "token_embd.weight"), "{error}");
}

/// Opens a file with a changed tokenizer.
fn with_tokenizer(change: impl FnOnce(&mut Craft)) -> Result<Checkpoint, Error> {
    let mut craft = Craft::of(TINY);
    let tokens: Vec<Vec<u8>> = ["<|end|>", "a", "b", "ab", "c", "d", "e", "f", "g", "h", "[PAD10]"].map(string).into();
    let kinds: Vec<Vec<u8>> = [3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5].map(|n: i32| n.to_le_bytes().to_vec()).into();
    craft.set("tokenizer.ggml.model", STRING, string("gpt2"));
    craft.set("tokenizer.ggml.pre", STRING, string("gpt-2"));
    craft.set("tokenizer.ggml.tokens", ARRAY, array(STRING, &tokens));
    craft.set("tokenizer.ggml.token_type", ARRAY, array(5, &kinds));
    craft.set("tokenizer.ggml.merges", ARRAY, array(STRING, &[string("a b")]));
    craft.set("tokenizer.ggml.eos_token_id", U32, 0u32.to_le_bytes().to_vec());
    change(&mut craft);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.gguf"), craft.bytes()).unwrap();
    Checkpoint::open(dir.path())
}

#[test]
fn an_unsupported_tokenizer_leaves_a_model_without_one() {
    let checkpoint = with_tokenizer(|_| {}).unwrap();
    let ids = checkpoint.tokenizer().unwrap().encode("abc<|end|>ba", Specials::Parse).unwrap();
    assert_eq!((ids.as_slice(), checkpoint.eos()), (&[3, 4, 0, 2, 1][..], &[0][..]));
    assert_eq!(checkpoint.ids_without_token(), [10]);
    for pre in ["gpt-2", "olmo", "falcon", "default"] {
        let checkpoint = with_tokenizer(|c| c.set("tokenizer.ggml.pre", STRING, string(pre))).unwrap();
        assert_eq!(checkpoint.tokenizer().unwrap().encode("abc", Specials::Parse).unwrap(), [3, 4], "{pre}");
    }
    let said =
        |change: &dyn Fn(&mut Craft)| with_tokenizer(|c| change(c)).unwrap().tokenizer().err().unwrap().to_string();
    let unknown = said(&|c| c.set("tokenizer.ggml.pre", STRING, string("qwen35")));
    assert!(unknown.contains("qwen35") && unknown.contains("falcon") && unknown.contains("--tokenizer"), "{unknown}");
    let other = said(&|c| c.set("tokenizer.ggml.model", STRING, string("llama")));
    assert!(other.contains("llama") && other.contains("--tokenizer"), "{other}");
    let none = said(&|c| c.keys.retain(|(key, ..)| !key.starts_with("tokenizer.")));
    assert!(none.contains("has no tokenizer"), "{none}");
    // Impossible values are errors at once.
    let wrong: [&dyn Fn(&mut Craft); 5] = [
        &|c| c.set("tokenizer.ggml.tokens", ARRAY, array(STRING, &vec![string("a"); 12])),
        &|c| c.set("tokenizer.ggml.tokens", ARRAY, array(STRING, &[])),
        &|c| c.set("tokenizer.ggml.tokens", STRING, string("a b c")),
        &|c| c.set("tokenizer.ggml.token_type", ARRAY, array(5, &[1i32.to_le_bytes().to_vec()])),
        &|c| c.set("tokenizer.ggml.token_type", ARRAY, array(5, &vec![9i32.to_le_bytes().to_vec(); 11])),
    ];
    for change in wrong {
        let error = with_tokenizer(|c| change(c)).err().unwrap();
        assert!(matches!(error, Error::BadGguf { .. }), "{error}");
    }
    // Defects of the tokenizer or template only affect text and chat.
    let merges = with_tokenizer(|c| c.set("tokenizer.ggml.merges", ARRAY, array(STRING, &[string("x y")]))).unwrap();
    assert!(matches!(merges.tokenizer().err(), Some(Error::Tokenizer { .. })));
    let broken = with_tokenizer(|c| c.set("tokenizer.chat_template", STRING, string("{% if %}"))).unwrap();
    assert!(matches!(broken.template_problem(), Some(Error::Template { .. })) && broken.tokenizer().is_ok());
}

#[test]
fn a_folder_of_one_gguf_model_is_that_model() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(file("tiny-F16"), dir.path().join("a.gguf")).unwrap();
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().config(), open("tiny-F16").config());
    // With another name it is recognized by its first bytes.
    fs::rename(dir.path().join("a.gguf"), dir.path().join("blob")).unwrap();
    Checkpoint::open(dir.path().join("blob")).unwrap();
    for name in ["a.gguf", "b.gguf"] {
        fs::copy(file("tiny-F16"), dir.path().join(name)).unwrap();
    }
    let error = Checkpoint::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains("a.gguf, b.gguf"), "{error}");
    // Beside .safetensors files it must be named.
    TINY.write(dir.path());
    assert_eq!(Checkpoint::open(dir.path()).unwrap().config().vocab, TINY.vocab);
}

/// The file split into two shards as by llama.cpp: the first holds the metadata.
fn cut(dir: &Path) -> [PathBuf; 2] {
    let whole = Craft::of(TINY);
    let parts = [0u32, 1].map(|number| {
        let mut part = whole.clone();
        if number > 0 {
            part.keys.clear();
        }
        for (key, value) in [("no", number), ("count", 2), ("tensors.count", whole.tensors.len() as u32)] {
            part.set(&format!("split.{key}"), U32, value.to_le_bytes().to_vec());
        }
        let mut index = 0;
        part.tensors.retain(|_| {
            index += 1;
            (index <= 9) == (number == 0)
        });
        part
    });
    let paths = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"].map(|name| dir.join(name));
    parts.iter().zip(&paths).for_each(|(part, path)| fs::write(path, part.bytes()).unwrap());
    paths
}

#[test]
fn a_sharded_model_is_opened_by_any_shard() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = cut(dir.path());
    let whole = opened(&Craft::of(TINY).bytes()).unwrap();
    for path in [&first, &second, &dir.path().to_owned()] {
        let checkpoint = Checkpoint::open(path).unwrap();
        assert_eq!(checkpoint.config(), &whole);
        checkpoint.tensors().unwrap();
    }
    // A wrong, missing or renamed shard.
    fs::copy(&first, &second).unwrap();
    let error = Checkpoint::open(&first).err().unwrap();
    assert!(matches!(error, Error::BadGguf { .. }), "{error}");
    fs::remove_file(&second).unwrap();
    let error = Checkpoint::open(&first).err().unwrap();
    assert!(error.to_string().contains("m-00002-of-00002.gguf"), "{error}");
    let other = dir.path().join("other.gguf");
    fs::rename(&first, &other).unwrap();
    let error = Checkpoint::open(&other).err().unwrap();
    assert!(error.to_string().contains("NAME-00001-of-00002.gguf"), "{error}");
}

#[test]
fn mutated_files_never_panic() {
    let random = &mut Random::new(20_261_122);
    let made = Craft::of(TINY);
    let fixture = fs::read(file("tiny-Q4_0")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    for (what, good, reach, times) in
        [("made", made.bytes(), made.header().len(), 6000), ("tiny-Q4_0", fixture[..40_000].to_vec(), 12_000, 300)]
    {
        let (mut sound, mut refused) = (0, 0);
        for _ in 0..times {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(reach.min(bytes.len()).max(1));
                match random.below(6) {
                    0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                    1 if at < bytes.len() => bytes[at] = random.bits() as u8,
                    2 if random.below(4) == 0 => bytes.truncate(at),
                    3 if at < bytes.len() => drop(bytes.remove(at)),
                    4 => bytes.insert(at.min(bytes.len()), random.bits() as u8),
                    _ if at + 8 <= bytes.len() => bytes[at..at + 8].fill([0, 0x7f, 0xff][random.below(3)]),
                    _ => {}
                }
            }
            // As a file on disk: with its tokenizer and the shards that it may name.
            fs::write(&path, bytes).unwrap();
            match Checkpoint::open(&path).and_then(|checkpoint| checkpoint.tensors().map(|_| ())) {
                Ok(()) => sound += 1,
                Err(_) => refused += 1,
            }
        }
        eprintln!("{what}: {sound} opened, {refused} refused");
        assert!(refused > times / 10, "{what}: the mutations do nothing");
    }
}
