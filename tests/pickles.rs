//! PyTorch checkpoints: tensors by name, what is skipped, and hostile files. No code of a pickle runs.
#![cfg(feature = "pickle")]

mod common;

use common::{Expected, close, fixture, gpu, logits, no_gpu};
use peregrine::Error;
use peregrine::format::TensorSource;
use peregrine::model::{Forward, ForwardOptions, WeightOptions, Weights};
use peregrine::runtime::Checkpoint;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An entry of a zip archive: name, bytes, flags and method.
struct Entry<'a> {
    name: &'a str,
    bytes: &'a [u8],
    flags: u16,
    method: u16,
}

fn stored<'a>(name: &'a str, bytes: &'a [u8]) -> Entry<'a> {
    Entry { name, bytes, flags: 0, method: 0 }
}

/// A zip archive. The checksums are zero: nothing reads them.
fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let (at, length) = (file.len() as u32, (entry.bytes.len() as u32).to_le_bytes());
        let mut head = Vec::new();
        for word in [20, entry.flags, entry.method, 0, 0x21, 0, 0] {
            head.extend(u16::to_le_bytes(word));
        }
        head.extend([length, length].concat());
        head.extend((entry.name.len() as u16).to_le_bytes());
        head.extend([0; 2]);
        file.extend([b"PK\x03\x04", &head[..], entry.name.as_bytes(), entry.bytes].concat());
        directory.extend([b"PK\x01\x02\x14\0", &head[..], &[0; 10], &at.to_le_bytes(), entry.name.as_bytes()].concat());
    }
    let (count, at) = ((entries.len() as u16).to_le_bytes(), file.len() as u32);
    let length = (directory.len() as u32).to_le_bytes();
    file.extend(directory);
    file.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &length, &at.to_le_bytes(), &[0; 2]].concat());
    file
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// LONG1.
fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8], &value.to_le_bytes()[..]].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<Vec<u8>> = entries.iter().map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", &items.concat()[..], b"u"].concat()
}

fn call(module: &str, name: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
    [format!("c{module}\n{name}\n").into_bytes(), tuple(arguments), b"R".to_vec()].concat()
}

/// A tensor of the storage `data/0`, whose type is `class` and which has `length` values.
fn tensor_of(class: &str, length: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let class = format!("ctorch\n{class}\n").into_bytes();
    let storage = [tuple(&[text("storage"), class, text("0"), text("cpu"), int(length)]), b"Q".to_vec()].concat();
    let sizes = |sizes: &[i64]| tuple(&sizes.iter().map(|size| int(*size)).collect::<Vec<_>>());
    let hooks = call("collections", "OrderedDict", &[]);
    let arguments = [storage, int(offset), sizes(shape), sizes(strides), vec![0x89], hooks];
    call("torch._utils", "_rebuild_tensor_v2", &arguments)
}

/// Six floats in the storage `data/0`, from the offset on.
fn tensor(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    tensor_of("FloatStorage", 6, offset, shape, strides)
}

const VALUES: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

fn checkpoint_with(pickle: &[u8], order: &[u8]) -> Vec<u8> {
    let values: Vec<u8> = VALUES.iter().flat_map(|value| value.to_le_bytes()).collect();
    zip(&[stored("a/data.pkl", pickle), stored("a/byteorder", order), stored("a/data/0", &values)])
}

/// A checkpoint whose pickle makes this value.
fn checkpoint(value: &[u8]) -> Vec<u8> {
    checkpoint_with(&[b"\x80\x02", value, b"."].concat(), b"little")
}

fn open(bytes: Vec<u8>) -> Result<TensorSource, Error> {
    TensorSource::from_bytes("x.pth", bytes)
}

/// Shapes and values of all tensors that can be read.
fn read(source: &TensorSource) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = BTreeMap::new();
    for name in source.names() {
        let shape = source.shape(name).unwrap();
        let Ok(tensor) = source.get(name, &shape) else { continue };
        let mut values = vec![0.0; shape.iter().product()];
        if !values.is_empty() {
            tensor.decode_rows(0..tensor.rows(), &mut values);
        }
        all.insert(name.to_owned(), (shape, values));
    }
    all
}

fn names(value: &[u8]) -> Vec<String> {
    open(checkpoint(value)).unwrap().names().map(str::to_owned).collect()
}

/// What is said of a checkpoint that does not open.
fn problem(bytes: Vec<u8>) -> String {
    let error = open(bytes).err().expect("it does not open");
    assert!(matches!(error, Error::BadPickle { .. }), "{error}");
    error.to_string()
}

#[test]
fn names_shapes_and_values_equal_those_of_safetensors() {
    let pickled = read(&TensorSource::open(&fixture("mamba-tiny-original")).unwrap());
    let plain = read(&TensorSource::open(&fixture("mamba-tiny")).unwrap());
    let mut compared = 0;
    for (name, (shape, values)) in &pickled {
        let own = if name == "lm_head.weight" { "backbone.embedding.weight" } else { name };
        let (wanted_shape, wanted) = &plain[&own.replace("embedding", "embeddings")];
        let halves: Vec<f32> = wanted.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
        assert!(shape == wanted_shape && *values == halves, "{name}");
        compared += 1;
    }
    assert_eq!(compared, plain.len() + 1, "all tensors and the head");
}

#[test]
fn mamba_runs_from_a_pickle() {
    if no_gpu("mamba_runs_from_a_pickle") {
        return;
    }
    let checkpoint = Checkpoint::open(fixture("mamba-tiny-original")).unwrap();
    let gpu = gpu();
    let weights = Weights::load(&gpu, &checkpoint.tensors().unwrap(), WeightOptions::default(), &mut |_| {}).unwrap();
    let options = ForwardOptions::default().chunk(64);
    let mut forward = Forward::new(&gpu, checkpoint.config(), Arc::new(weights), options).unwrap();
    let expected = Expected::read(&fixture("mamba-tiny-original").join("expected.safetensors"));
    let lengths: Vec<&str> = expected.names().filter_map(|name| name.strip_prefix("logits.")).collect();
    assert!(!lengths.is_empty());
    for length in lengths {
        forward.reset(0).unwrap();
        let got = logits(&mut forward, &expected.ids(&format!("ids.{length}")));
        close(&format!("logits.{length}"), &got, expected.get(&format!("logits.{length}")), |_| 3e-4);
    }
}

#[test]
fn a_tensor_is_a_piece_of_its_storage() {
    let pieces = dict(&[
        ("all", tensor(0, &[2, 3], &[3, 1])),
        ("row", tensor(3, &[1, 3], &[99, 1])),
        ("one", tensor(5, &[], &[])),
        ("none", tensor(0, &[0, 3], &[3, 1])),
    ]);
    let found = read(&open(checkpoint(&pieces)).unwrap());
    assert_eq!(found["all"], (vec![2, 3], VALUES.to_vec()));
    assert_eq!(found["row"], (vec![1, 3], VALUES[3..].to_vec()));
    assert_eq!(found["one"], (vec![], vec![6.0]));
    assert_eq!(found["none"], (vec![0, 3], vec![]));
}

#[test]
fn the_state_of_the_training_is_skipped() {
    let model = || dict(&[("module.w", tensor(0, &[6], &[1])), ("module.steps", int(3))]);
    let other = || dict(&[("wrong", tensor(0, &[6], &[1]))]);
    // BUILD with attributes, NEWOBJ, a list of optimizer's parameters with a transposed tensor, a number of numpy, a partial call.
    let namespace = [&b"cargparse\nNamespace\n)\x81"[..], &dict(&[("lr", int(1))]), b"b"].concat();
    let state = dict(&[("exp_avg", tensor(0, &[3, 2], &[1, 3])), ("missing", tensor(900, &[9], &[1]))]);
    let scalar = call("numpy.core.multiarray", "scalar", &[call("numpy", "dtype", &[text("f8")]), b"C\x02ab".to_vec()]);
    let partial = call("functools", "partial", &[b"cnumpy\nmean\n".to_vec()]);
    let training = || {
        [
            ("args", namespace.clone()),
            ("optimizer", [&b"}(K\x00"[..], &state, b"u"].concat()),
            ("best", scalar.clone()),
            ("partial", partial.clone()),
            ("epoch", int(3)),
        ]
    };
    for (key, beside) in [("model", "model_ema"), ("model", "state_dict"), ("state_dict", "model_ema")] {
        let entries = [&training()[..], &[(beside, other()), (key, model())]].concat();
        assert_eq!(names(&dict(&entries)), ["w"], "{key}");
    }
    assert_eq!(names(&dict(&[&training()[..], &[("model_ema", model())]].concat())), ["w"]);
    // A name, or a dict without tensors, is no model.
    let named = dict(&[("model", text("vim")), ("state_dict", dict(&[("a", int(1))])), ("w", tensor(0, &[6], &[1]))]);
    assert_eq!(names(&named), ["w"]);
    // Not common to all: the prefix stays.
    let mixed = dict(&[("module.w", tensor(0, &[6], &[1])), ("v", tensor(0, &[6], &[1]))]);
    assert_eq!(names(&mixed), ["module.w", "v"]);
    // Parameters and the attributes of an ordered dict.
    let parameter = call("torch._utils", "_rebuild_parameter", &[tensor(0, &[6], &[1]), vec![0x88], vec![b'N']]);
    let ordered =
        [call("collections", "OrderedDict", &[]), b"(".to_vec(), text("w"), parameter, b"u".to_vec()].concat();
    let attributed = [ordered, dict(&[("_metadata", dict(&[]))]), b"b".to_vec()].concat();
    assert_eq!(read(&open(checkpoint(&attributed)).unwrap())["w"].1, VALUES);
    assert!(problem(checkpoint(&dict(&training()))).contains("no dict of tensors"));
}

#[test]
fn what_pythons_own_pickler_writes_is_read() {
    // Protocol 2 with Namespace, numbers of numpy, optimizer and scaler; protocol 4 with averaged weights one dict deeper.
    for (name, first) in [("training", 10.0), ("average", 30.0)] {
        let bytes = std::fs::read(fixture("pickle").join(format!("{name}.pth"))).unwrap();
        let source = open(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(source.names().collect::<Vec<_>>(), ["head.bias", "head.weight", "steps"], "{name}");
        let found = read(&source);
        assert_eq!(found["head.weight"], (vec![2, 3], (0..6).map(|i| first + i as f32).collect()), "{name}");
        assert_eq!(found["head.bias"], (vec![2], vec![first + 1.0, first + 2.0]), "{name}");
    }
}

#[test]
fn a_call_of_the_system_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let touched = dir.path().join("touched");
    let command = text(&format!("touch '{}'", touched.display()));
    for module in ["os", "posix", "nt"] {
        let evil = call(module, "system", std::slice::from_ref(&command));
        assert!(problem(checkpoint(&evil)).contains("a Python object"));
        let beside = dict(&[("evil", evil), ("w", tensor(0, &[6], &[1]))]);
        assert_eq!(names(&beside), ["w"]);
    }
    assert!(!touched.exists());
    // The command would have made the file.
    #[cfg(unix)]
    {
        let shell = std::process::Command::new("sh").arg("-c").arg(format!("touch '{}'", touched.display())).status();
        assert!(shell.unwrap().success() && touched.exists());
    }
}

#[test]
fn each_problem_is_named() {
    let one = |tensor: Vec<u8>| checkpoint(&dict(&[("w", tensor)]));
    let fine = [&b"\x80\x02"[..], &dict(&[("w", tensor(0, &[6], &[1]))]), b"."].concat();
    assert!(open(checkpoint_with(&fine, b"little")).is_ok());
    let with = |entry: Entry<'_>| zip(&[stored("a/data.pkl", &fine), stored("a/data/0", &[0; 24]), entry]);
    assert!(open(with(stored("a/version", b"3"))).is_ok());
    let (packed, secret) =
        (Entry { method: 8, ..stored("a/data/0", &[0; 24]) }, Entry { flags: 1, ..stored("a/data/0", &[0; 24]) });
    let most = i64::MAX;
    for (bytes, said) in [
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), "before 1.6"),
        (b"\x80\x02}q\0.".to_vec(), "bare pickle"),
        (with(stored("a/constants.pkl", b"")), "TorchScript"),
        (with(stored("a/code/m.py", b"")), "TorchScript"),
        (zip(&[stored("a/data.pkl", &fine), packed]), "compressed"),
        (zip(&[stored("a/data.pkl", &fine), secret]), "encrypted"),
        (zip(&[stored("a/data.pkl", &fine)]), "no entry data/0"),
        (zip(&[stored("a/other", &fine)]), "without data.pkl"),
        (zip(&[stored("a/data.pkl", &fine), stored("b/data.pkl", &fine)]), "more than one data.pkl"),
        (zip(&[stored("a/data.pkl", &fine), stored("a/data/0", &[0; 23])]), "has 23 bytes"),
        (checkpoint_with(&fine, b"big"), "little-endian"),
        (one(tensor(0, &[3, 2], &[1, 3])), "tensor w: its values are not in row-major order"),
        (one(tensor(0, &[2, 3], &[0, 1])), "row-major"),
        (one(tensor(1, &[6], &[1])), "ends at byte 28"),
        (one(tensor(0, &[7], &[1])), "ends at byte 28"),
        (one(tensor(most, &[6], &[1])), "overflows"),
        (one(tensor(0, &[most, most], &[most, 1])), "overflows"),
        (one(tensor_of("FloatStorage", most, 0, &[6], &[1])), "overflows"),
        (one(tensor(-1, &[6], &[1])), "-1 is no size"),
        (one(tensor(0, &[1; 17], &[1; 17])), "17 dimensions"),
        (one(tensor(0, &[6], &[])), "1 dimensions and 0 strides"),
        (checkpoint_with(&fine[..fine.len() - 1], b"little"), "ends early"),
    ] {
        let found = problem(bytes);
        assert!(found.contains(said), "{said:?}: {found}");
    }
}

#[test]
fn other_types_are_listed_but_not_read() {
    let whole = dict(&[
        ("steps", tensor_of("LongStorage", 3, 0, &[3], &[1])),
        ("turned", tensor_of("IntStorage", 6, 0, &[3, 2], &[1, 3])),
        ("complex", tensor_of("ComplexFloatStorage", 3, 0, &[3], &[1])),
        ("w", tensor(0, &[6], &[1])),
    ]);
    let source = open(checkpoint(&whole)).unwrap();
    assert_eq!(source.names().count(), 4);
    for (name, said) in [("steps", "I64"), ("turned", "out of order"), ("complex", "ComplexFloatStorage")] {
        let error = source.get(name, &source.shape(name).unwrap()).err().unwrap();
        assert!(matches!(&error, Error::WrongDtype { found, .. } if found.contains(said)), "{error}");
    }
}

#[test]
fn damage_is_an_error_or_gives_tensors() {
    let whole =
        checkpoint(&dict(&[("model", dict(&[("a", tensor(0, &[2, 3], &[3, 1])), ("b", tensor(1, &[5], &[1]))]))]));
    let wanted = read(&open(whole.clone()).unwrap());
    let (mut refused, mut changed) = (0, 0);
    for end in 0..whole.len() {
        let cut = open(whole[..end].to_vec());
        assert!(cut.is_err(), "the first {end} of {} bytes open", whole.len());
    }
    for at in 0..whole.len() {
        for flip in [1, 0x10, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            match open(bytes) {
                Err(_) => refused += 1,
                Ok(source) => changed += usize::from(read(&source) != wanted),
            }
        }
    }
    // Checksums are not read: damage of values shows in them.
    assert!(refused > whole.len() && changed >= 4 * 24, "{refused} {changed}");
}

/// The process's largest memory so far, in bytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[test]
fn bombs_end_quickly_with_an_error() {
    let many = |piece: &[u8]| piece.repeat((8 << 20) / piece.len());
    let nested: Vec<u8> = b"]".repeat(1 << 20).into_iter().chain(b"a".repeat((1 << 20) - 1)).collect();
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("LONG4 of gigabytes", b"\x8b\xff\xff\xff\x7f\x01".to_vec()),
        ("BINUNICODE8 of exabytes", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab".to_vec()),
        ("BINUNICODE8 of all", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab".to_vec()),
        ("BINBYTES8 of gigabytes", b"\x8e\0\0\0\0\x04\0\0\0ab".to_vec()),
        ("FRAME of gigabytes", b"\x95\0\0\0\0\x04\0\0\0}".to_vec()),
        ("memo far away", b"Nr\xff\xff\xff\xff".to_vec()),
        ("empty dicts", many(b"}0")),
        ("marks", many(b"(")),
        ("copies", [b"]".to_vec(), many(b"2")].concat()),
        ("memo", [b"N".to_vec(), many(b"\x94")].concat()),
        ("a list within itself", [b"]".to_vec(), many(b"2a")].concat()),
        ("nested lists", nested.clone()),
        ("nested tuples", [b")".to_vec(), many(b"\x85")].concat()),
        ("doubled tuples", [b")".to_vec(), many(b"2\x86")].concat()),
        (
            "tuples where the stack was long",
            [b"(".to_vec(), b"N".repeat(1 << 19), b"1".to_vec(), many(b"(t0")].concat(),
        ),
        ("a name without end", [b"c".to_vec(), many(b"a")].concat()),
        ("nothing to pop", b"0".to_vec()),
        ("no mark", b"u".to_vec()),
    ];
    let before = peak();
    for (name, pickle) in bombs {
        let started = Instant::now();
        let said = problem(checkpoint(&pickle));
        assert!(started.elapsed() < Duration::from_secs(10), "{name}: {:?}", started.elapsed());
        println!("{name}: {said}");
    }
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after - before < 1 << 30, "{} MiB", (after - before) >> 20);
    }
    // Deep values beside a model are skipped, and dropped without a deep stack.
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let deep = [&b"}("[..], &text("deep"), &b"]".repeat(1 << 18), &b"a".repeat((1 << 18) - 1)].concat();
    let deep = [deep, text("w"), tensor(0, &[6], &[1]), b"u".to_vec()].concat();
    assert_eq!(small.spawn(move || names(&deep)).unwrap().join().unwrap(), ["w"]);
}

#[test]
fn a_file_is_known_by_its_first_bytes_and_an_index_names_several() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("weights"), checkpoint(&dict(&[("w", tensor(0, &[6], &[1]))]))).unwrap();
    assert_eq!(read(&TensorSource::open_file(&path("weights")).unwrap())["w"].1, VALUES);
    let plain = fixture("mamba-tiny").join("model.safetensors");
    assert!(TensorSource::open_file(&plain).unwrap().names().count() > 1);
    std::fs::rename(path("weights"), path("p-1.bin")).unwrap();
    std::fs::write(path("p-2.bin"), checkpoint(&dict(&[("v", tensor(2, &[4], &[1]))]))).unwrap();
    let index = r#"{"weight_map": {"w": "p-1.bin", "v": "p-2.bin"}}"#;
    std::fs::write(path("pytorch_model.bin.index.json"), index).unwrap();
    let found = read(&TensorSource::open(dir.path()).unwrap());
    assert_eq!((found["w"].1.len(), found["v"].1.len()), (6, 4));
    // The same name with other values in two files.
    std::fs::write(path("p-2.bin"), checkpoint(&dict(&[("w", tensor(2, &[4], &[1]))]))).unwrap();
    let error = TensorSource::open(dir.path()).err().unwrap();
    assert!(matches!(&error, Error::BadPickle { .. }) && error.to_string().contains("p-1.bin"), "{error}");
}
