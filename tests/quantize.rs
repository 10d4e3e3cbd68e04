//! Checkpoint conversion: the output holds the same values, as far as the format can, and failures leave nothing behind.

mod common;
#[path = "common/craft.rs"]
mod craft;
mod program;

use common::{Expected, TINY, fixture, shipped};
use craft::Craft;
use peregrine::Error;
use peregrine::format::{Encoding, WeightFormat};
use peregrine::model::TensorId;
use peregrine::model::reference::Reference;
use peregrine::runtime::{Checkpoint, Existing, ExportOptions};
use peregrine::text::Specials;
use program::{refused, run, stderr, stdout};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn options(weights: WeightFormat) -> ExportOptions {
    ExportOptions { weights, existing: Existing::Refuse }
}

fn export(from: impl AsRef<Path>, weights: WeightFormat, out: &Path) -> Checkpoint {
    let what = format!("{} as {weights} to {}", from.as_ref().display(), out.display());
    let (mut last, mut calls) = (None, 0);
    let checkpoint = Checkpoint::open(from).unwrap();
    let bytes = checkpoint
        .export(out, options(weights), &mut |progress| {
            assert!(last.is_none_or(|last| last <= progress.done) && progress.done <= progress.total);
            (last, calls) = (Some(progress.done), calls + 1);
        })
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(calls > 10 && bytes > 1000, "{what}: {calls} calls, {bytes} bytes");
    Checkpoint::open(out).unwrap_or_else(|e| panic!("{what}: {e}"))
}

fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f64> {
    let reference = Reference::new(checkpoint.config(), &checkpoint.tensors().unwrap());
    reference.forward(ids, &mut reference.start(), |_, _| {}).unwrap()
}

fn most_off(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The names in a folder.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Each matrix in the new checkpoint holds what encoding the old one gives, bit for bit.
fn holds_what_encoding_gives(old: &Checkpoint, new: &Checkpoint, format: WeightFormat) {
    let (old, new) = (old.tensors().unwrap(), new.tensors().unwrap());
    let (mut quantized, mut matrices) = (0, 0);
    for ((part, before), (same, after)) in old.all().zip(new.all()) {
        assert_eq!(part, same);
        if part.role(false).is_none() {
            continue;
        }
        matrices += 1;
        let held = after.held_as();
        quantized += usize::from(held == format);
        let (rows, columns) = (before.rows(), before.columns());
        let encode = |tensor: &peregrine::format::Tensor| {
            let mut blocks = vec![0; rows * held.row_bytes(columns)];
            tensor.encode_rows(0..rows, held, &mut blocks);
            blocks
        };
        assert!(encode(before) == encode(after), "{} as {held}", before.name);
    }
    assert!(quantized * 3 >= matrices, "{format}: {quantized} of {matrices}");
}

#[test]
fn a_gguf_file_holds_the_model_in_every_format_of_gguf() {
    let dir = tempfile::tempdir().unwrap();
    let old = Checkpoint::open(shipped("tiny-chat")).unwrap();
    for format in WeightFormat::ALL {
        let out = dir.path().join(format!("{format}.gguf"));
        if matches!(format, WeightFormat::Nf4 | WeightFormat::Fp4 | WeightFormat::Int8) {
            let error = old.export(&out, options(format), &mut |_| {}).unwrap_err();
            assert!(
                matches!(error, Error::BadOutput { .. }) && error.to_string().contains("write a folder"),
                "{error}"
            );
            continue;
        }
        let new = export(shipped("tiny-chat"), format, &out);
        assert_eq!(new.config(), &peregrine::model::Config { eos: new.config().eos.clone(), ..old.config().clone() });
        assert_eq!(new.eos(), old.eos());
        // Rows of 192 and 384 values have no blocks of 256: other formats are used, and the file names them.
        if format.block_values() < 256 {
            holds_what_encoding_gives(&old, &new, format);
        }
    }
    assert_eq!(names(dir.path()).len(), 8, "nothing is left beside the files");
}

#[test]
fn a_tied_embedding_keeps_eight_bits() {
    let dir = tempfile::tempdir().unwrap();
    let tied = export(fixture("mamba-tiny"), WeightFormat::Q4_0, &dir.path().join("tied.gguf"));
    let own = export(fixture("falcon-tiny"), WeightFormat::Q4_0, &dir.path().join("own.gguf"));
    let (tied, own) = (tied.tensors().unwrap(), own.tensors().unwrap());
    assert!(tied.head.is_none() && tied.embedding.held_as() == WeightFormat::Q8_0);
    let of_head = own.head.as_ref().map(peregrine::format::Tensor::held_as);
    assert_eq!((own.embedding.held_as(), of_head), (WeightFormat::Q4_0, Some(WeightFormat::Q8_0)));
}

#[test]
fn blocks_of_256_are_written_if_rows_divide_into_them() {
    let dir = tempfile::tempdir().unwrap();
    for (from, format) in [
        ("falcon-wide-nf4", WeightFormat::Q4K),
        ("falcon-wide-nf4", WeightFormat::Q5K),
        ("gguf/wide-Q6_K.gguf", WeightFormat::Q6K),
        ("gguf/wide-Q6_K.gguf", WeightFormat::Q4K),
    ] {
        for out in [dir.path().join(format!("{format}.gguf")), dir.path().join(format.name())] {
            let new = export(fixture(from), format, &out);
            holds_what_encoding_gives(&Checkpoint::open(fixture(from)).unwrap(), &new, format);
            drop(new); // Windows keeps a mapped file
            if out.is_dir() { fs::remove_dir_all(&out).unwrap() } else { fs::remove_file(&out).unwrap() }
        }
    }
}

#[test]
fn plain_conversions_give_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["falcon-tiny", "mamba-tiny"] {
        let expected = Expected::read(&fixture(name).join("expected.safetensors"));
        let ids = expected.ids("ids.64");
        let old = Checkpoint::open(fixture(name)).unwrap();
        let before = logits(&old, &ids);
        // To a file, to a folder, and to a file again: A is converted to its logarithm and back.
        let file = export(fixture(name), WeightFormat::F32, &dir.path().join(format!("{name}.gguf")));
        let folder = export(file.label(), WeightFormat::F32, &dir.path().join(name));
        let again = export(folder.label(), WeightFormat::F32, &dir.path().join(format!("{name}-2.gguf")));
        for (what, new) in [("file", &file), ("folder", &folder), ("again", &again)] {
            let off = most_off(&before, &logits(new, &ids));
            assert!(off < 5e-5, "{name} {what}: {off:e}");
            assert_eq!(
                (new.config().architecture, new.config().vocab),
                (old.config().architecture, old.config().vocab)
            );
            assert_eq!(new.tensors().unwrap().head.is_some(), old.tensors().unwrap().head.is_some());
            assert_eq!((new.eos(), new.has_template()), (old.eos(), old.has_template()), "{name} {what}");
            assert_eq!(new.ids_without_token(), old.ids_without_token(), "{name} {what}");
        }
        let half = export(fixture(name), WeightFormat::F16, &dir.path().join(format!("{name}-f16")));
        let off = most_off(&before, &logits(&half, &ids));
        assert!((1e-4..0.3).contains(&off), "{name} f16: {off:e}");
    }
}

#[test]
fn text_survives_conversion_to_gguf() {
    let dir = tempfile::tempdir().unwrap();
    let texts =
        ["Once upon a time", "What is 12 plus 2?\n\n  12345,67 `code`", "naïve café — ¿qué? 日本語 ٣٤٥", "<|im_end|>"];
    for from in [fixture("falcon-tiny"), fixture("mamba-tiny"), shipped("tiny-chat"), shipped("induction-heads")] {
        let old = Checkpoint::open(&from).unwrap();
        let name = from.file_name().unwrap().to_str().unwrap();
        let file = export(&from, WeightFormat::F16, &dir.path().join(format!("{name}.gguf")));
        let folder = export(file.label(), WeightFormat::F16, &dir.path().join(name));
        for new in [&file, &folder] {
            let (a, b) = (old.tokenizer().unwrap(), new.tokenizer().unwrap());
            for text in texts {
                for specials in [Specials::Parse, Specials::Literal] {
                    let ids = a.encode(text, specials).unwrap();
                    assert_eq!(b.encode(text, specials).unwrap(), ids, "{name}: {text:?}");
                    assert_eq!(a.decode(&ids), b.decode(&ids));
                }
            }
            assert_eq!((old.eos(), old.has_template()), (new.eos(), new.has_template()));
        }
    }
}

#[test]
fn folders_store_bitsandbytes_codes_in_its_layout() {
    let dir = tempfile::tempdir().unwrap();
    for format in [WeightFormat::Nf4, WeightFormat::Fp4, WeightFormat::Int8] {
        let out = dir.path().join(format.name());
        let new = export(shipped("tiny-chat"), format, &out);
        let tensors = new.tensors().unwrap();
        for (id, tensor) in tensors.all() {
            let inner = matches!(id, TensorId::Layer(..)) && id.role(false).is_some();
            match &tensor.encoding {
                Encoding::Bnb4(_) => assert!(inner && format != WeightFormat::Int8, "{}", tensor.name),
                Encoding::Int8(_) => assert!(inner && format == WeightFormat::Int8, "{}", tensor.name),
                _ => assert!(!inner, "{} stays as it is", tensor.name),
            }
        }
        let config: serde_json::Value = serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["quantization_config"]["quant_method"], "bitsandbytes");
        // Within half a step of the original; converted again, the same codes.
        let old = Checkpoint::open(shipped("tiny-chat")).unwrap();
        let old = old.tensors().unwrap();
        for ((_, before), (part, after)) in
            old.all().zip(tensors.all()).filter(|(_, (part, _))| part.role(false).is_some())
        {
            let (before, after) = (before.to_f32(), after.to_f32());
            let largest = before.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let step = if format == WeightFormat::Int8 { 1.0 / 254.0 } else { 0.17 };
            let off = before.iter().zip(&after).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= largest * step * 1.01, "{part:?} {format}: off by {off}, the largest is {largest}");
        }
        drop(tensors);
        let twice = dir.path().join("twice");
        export(&out, format, &twice);
        let [a, b] = [&out, &twice].map(|dir| fs::read(dir.join("model.safetensors")).unwrap());
        assert!(a == b, "{format}: written once more, the same");
        fs::remove_dir_all(&twice).unwrap();
    }
}

/// A folder for outputs, and a small model in its own folder.
fn places() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    TINY.write(&model);
    (dir, model)
}

#[test]
fn quantize_writes_the_output_and_reports_it() {
    let (dir, model) = places();
    let (model, out) = (model.to_str().unwrap(), dir.path().join("out.gguf"));
    let out = out.to_str().unwrap();
    let done = run(&["quantize", "-m", model, "-w", "bf16", "-o", out]);
    assert!(done.status.success() && stderr(&done).contains("wrote") && done.stdout.is_empty(), "{}", stderr(&done));
    // An existing output is kept without --force.
    refused(&run(&["quantize", "-m", model, "-w", "f16", "-o", out]), 2, &["--force", "out.gguf"]);
    assert_eq!(Checkpoint::open(out).unwrap().tensors().unwrap().embedding.held_as(), WeightFormat::Bf16);
    assert!(run(&["quantize", "-m", model, "-w", "f16", "-o", out, "--force"]).status.success());
    assert_eq!(Checkpoint::open(out).unwrap().tensors().unwrap().embedding.held_as(), WeightFormat::F16);
    let folder = dir.path().join("folder");
    let folder = folder.to_str().unwrap();
    for _ in 0..2 {
        assert!(run(&["quantize", "-m", out, "-w", "f32", "-o", folder, "--force"]).status.success());
    }
    assert_eq!(names(dir.path()), ["folder", "model", "out.gguf"]);
    assert_eq!(names(Path::new(folder)), ["config.json", "generation_config.json", "model.safetensors"]);
    // An overridden epsilon is written.
    let eps = run(&["quantize", "-m", model, "-w", "f32", "-o", out, "--force", "--mixer-rms-eps", "1e-4"]);
    assert!(eps.status.success(), "{}", stderr(&eps));
    assert_eq!(Checkpoint::open(out).unwrap().config().architecture.inner_norm_eps(), Some(1e-4));
}

#[test]
fn protected_outputs_are_not_overwritten() {
    let (dir, model) = places();
    let (model, folder) = (model.to_str().unwrap(), dir.path().to_str().unwrap());
    let quantize = |out: &str, more: &[&str]| run(&[&["quantize", "-m", model, "-w", "f16", "-o", out], more].concat());
    for more in [&[][..], &["--force"]] {
        refused(&quantize(model, more), 2, &["it is the model to be read"]);
        // The model's own folder.
        refused(&quantize(folder, more), 2, &["it is the model to be read"]);
    }
    let precious = dir.path().join("precious");
    fs::create_dir_all(precious.join("below")).unwrap();
    fs::write(precious.join("config.json"), "{}").unwrap();
    refused(&quantize(precious.to_str().unwrap(), &["--force"]), 2, &["not a folder that holds only a checkpoint"]);
    fs::create_dir(dir.path().join("x.gguf")).unwrap();
    refused(&quantize(dir.path().join("x.gguf").to_str().unwrap(), &["--force"]), 2, &["it is a folder"]);
    refused(&quantize(&format!("{folder}/no/such/out.gguf"), &[]), 1, &["no/such/out.gguf"]);
    refused(&quantize("/", &["--force"]), 2, &["cannot write /"]);
    refused(&run(&["quantize", "-m", model, "-w", "nf4", "-o", &format!("{folder}/y.gguf")]), 2, &["write a folder"]);
    refused(&run(&["quantize", "-m", model, "-w", "q3", "-o", "y.gguf"]), 2, &["q3", "q4_K"]);
    refused(&run(&["quantize", "-m", "/no/such", "-w", "f16", "-o", &format!("{folder}/y.gguf")]), 3, &["/no/such"]);
    // A new file inside the model's folder is allowed.
    assert!(quantize(&format!("{model}/own.gguf"), &[]).status.success());
    let own = format!("{model}/own.gguf");
    refused(&run(&["quantize", "-m", &own, "-w", "f16", "-o", &own, "--force"]), 2, &["it is the model to be read"]);
    assert_eq!(names(dir.path()), ["model", "precious", "x.gguf"]);
    assert!(Checkpoint::open(model).is_ok());
}

#[test]
fn a_failed_export_leaves_nothing() {
    let (dir, model) = places();
    // A tokenizer that GGUF cannot name, and a folder that lacks a tensor.
    fs::write(model.join("tokenizer.json"), r#"{"model": {"vocab": {}, "merges": []}, "pre_tokenizer": null}"#)
        .unwrap();
    let checkpoint = Checkpoint::open(&model);
    if let Ok(checkpoint) = checkpoint {
        assert!(checkpoint.export(dir.path().join("x.gguf"), options(WeightFormat::F16), &mut |_| {}).is_err());
    }
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    fs::write(model.join("config.json"), config.replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":3")).unwrap();
    for out in ["x.gguf", "x"] {
        let model = model.to_str().unwrap();
        let out = dir.path().join(out);
        refused(&run(&["quantize", "-m", model, "-w", "f16", "-o", out.to_str().unwrap()]), 3, &["layers.2"]);
    }
    assert_eq!(names(dir.path()), ["model"]);
}

#[cfg(unix)]
#[test]
fn a_killed_export_leaves_no_output() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    let mut killed = 0;
    for milliseconds in [5, 20, 40, 80, 120, 200] {
        for out in ["out.gguf", "out"] {
            let out = dir.path().join(out);
            let arguments = ["quantize", "-w", "q4_0", "-o", out.to_str().unwrap()];
            let mut child = program::peregrine().args(arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            child.kill().unwrap();
            if child.wait().unwrap().signal().is_some() {
                killed += 1;
                assert!(!out.exists() || Checkpoint::open(&out).is_ok(), "{milliseconds} ms: half of an output");
            }
            if out.is_dir() {
                fs::remove_dir_all(&out).unwrap();
            }
            let _ = fs::remove_file(&out);
        }
    }
    assert!(killed > 0, "nothing was killed in time");
    // The next run removes leftovers.
    for out in ["out.gguf", "out"] {
        stdout(&run(&["quantize", "-w", "q4_0", "-o", dir.path().join(out).to_str().unwrap()]));
    }
    assert_eq!(names(dir.path()), ["out", "out.gguf"]);
}

#[test]
fn inspect_lists_converted_types() {
    let mut craft = Craft::of(common::Shape { hidden: 32, inner: 64, ..TINY });
    // Any bytes are valid blocks.
    for (name, kind) in [("ssm_in", 6), ("ssm_out", 3)] {
        craft.tensor(&format!("blk.0.{name}.weight")).kind = kind;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rare.gguf");
    fs::write(&path, craft.bytes()).unwrap();
    let text = stdout(&run(&["inspect", "-m", path.to_str().unwrap()]));
    for said in
        ["Q5_0 is converted to q8_0, without loss", "Q4_1 is converted to f16, rounded", "Q5_0 0.0 MB", "f32 0.0 MB"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&run(&["inspect", "--json", "-m", path.to_str().unwrap()]))).unwrap();
    assert!(json["types"]["Q5_0"].as_u64() > Some(0), "{json}");
    let plain = stdout(&run(&["inspect", "-m", shipped("tiny-chat").to_str().unwrap()]));
    assert!(!plain.contains("is converted to"), "{plain}");
}
