//! `PEREGRINE_SHADERS`: shaders from a folder instead of the built-in ones.

mod common;
mod program;

use common::{gpu_with, made_up_shape, no_gpu};
use peregrine::error::Error;
use peregrine::format::WeightFormat;
use peregrine::gpu::{AdapterChoice, Gpu, Plan, READS_SHADERS, Switches, Usage, link};
use peregrine::kernels::{self, Activation, Batch, rms_norm};
use peregrine::model::{Forward, ForwardOptions, Tune, Weights};
use program::{peregrine, refused, stderr, stdout};
use std::path::Path;
use std::sync::Arc;

fn skipped(test: &str) -> bool {
    if !READS_SHADERS {
        eprintln!("SKIPPED {test}: this build reads no shaders");
    }
    !READS_SHADERS || no_gpu(test)
}

fn original(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders").join(file)).unwrap()
}

/// A folder with this file, with `from` replaced by `to`.
fn folder(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let (dir, text) = (tempfile::tempdir().unwrap(), original(file));
    assert!(text.contains(from), "{file} has no {from:?}");
    let path = dir.path().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text.replace(from, to)).unwrap();
    dir
}

fn with(dir: &Path) -> Gpu {
    gpu_with(Switches { shaders: Some(dir.to_owned()), ..Switches::from_env().unwrap() })
}

/// A row, normed on the device.
fn normed(gpu: &Gpu) -> Vec<f32> {
    let [x, y] = ["x", "y"].map(|label| Activation::new(gpu, label, 1, 64).unwrap());
    gpu.write(&x.buf, 0, &[0.5; 64]).unwrap();
    let weight = gpu.upload("weight", &[1.5f32; 64], Usage::Storage).unwrap();
    let batch = gpu.upload("batch", &[Batch { rows: 1, ..Default::default() }], Usage::Uniform).unwrap();
    let mut plan = Plan::new(gpu, "norm");
    rms_norm::record(&mut plan, "y", (&x, &y), &weight, 1e-5, &batch).unwrap();
    plan.run(1).unwrap();
    pollster::block_on(y.read(gpu, 1, 0..64)).unwrap()
}

#[test]
fn a_kernel_uses_the_folders_shader_if_it_has_one() {
    if skipped("a_kernel_uses_the_folders_shader_if_it_has_one") {
        return;
    }
    let plain = normed(&common::gpu());
    let changed = folder("rms_norm.wgsl", "* weight[i];", "* weight[i] * 2.0;");
    let twice: Vec<f32> = plain.iter().map(|v| v * 2.0).collect();
    assert_eq!(normed(&with(changed.path())), twice);
    // A file of shaders/lib is used too.
    let of_library = folder("lib/batch.wgsl", "struct Batch", "// of the folder\nstruct Batch");
    let gpu = with(of_library.path());
    assert_eq!(normed(&gpu), plain);
    let defs = kernels::all(gpu.caps()).into_iter().flat_map(|(defs, _)| defs);
    let from_it = defs.filter(|def| link(def, gpu.caps()).wgsl.contains("// of the folder")).count();
    assert!(from_it > 5, "{from_it} kernels have the file");
    // Negative controls: an unchanged file, a file of another kernel, and no file change nothing.
    for other in
        [folder("rms_norm.wgsl", "x", "x"), folder("conv.wgsl", "silu", "2.0 * silu"), tempfile::tempdir().unwrap()]
    {
        assert_eq!(normed(&with(other.path())), plain);
    }
}

#[test]
fn a_shader_that_does_not_compile_is_an_error() {
    if skipped("a_shader_that_does_not_compile_is_an_error") {
        return;
    }
    let broken = folder("rms_norm.wgsl", "var squares = 0.0;", "var squares = ;");
    let gpu = with(broken.path());
    let defs = kernels::all(gpu.caps()).into_iter().flat_map(|(defs, _)| defs);
    for def in defs.filter(|def| def.name == "rms_norm") {
        let error = gpu.kernel(&def).map(|_| ()).unwrap_err();
        assert!(matches!(&error, Error::Gpu { what, .. } if what == "rms_norm"), "{error}");
        let line = original("rms_norm.wgsl").lines().position(|line| line.contains("var squares = 0.0;")).unwrap() + 1;
        let said = error.to_string();
        assert!(said.contains(&format!("rms_norm.wgsl:{line}:")), "line {line} is missing in: {said}");
        assert!(said.contains(&format!("{line} │")) && !said.contains("wgsl:0") && !said.contains(" wgsl:"), "{said}");
    }
}

#[test]
fn tuning_results_are_cached_per_shader_set() {
    if skipped("tuning_results_are_cached_per_shader_set") {
        return;
    }
    let kept = tempfile::tempdir().unwrap();
    let tune = |gpu: &Gpu| {
        gpu.keep_in(kept.path()).unwrap();
        let shape = made_up_shape(64, 1, 300);
        let weights = Weights::made_up(gpu, &shape, WeightFormat::F32, &mut |_| {}).unwrap();
        let options = ForwardOptions::default().chunk(8).tune(Tune::Auto);
        Forward::new(gpu, &shape.config, Arc::new(weights), options).unwrap();
        let files = std::fs::read_dir(kept.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "json")).count()
    };
    assert_eq!(tune(&common::gpu()), 1);
    let same = folder("conv.wgsl", "x", "x");
    assert_eq!(tune(&with(same.path())), 1, "the same shaders from elsewhere");
    let changed = folder("conv.wgsl", "@compute", "// changed\n@compute");
    assert_eq!(tune(&with(changed.path())), 2);
    assert_eq!(tune(&with(changed.path())), 2, "found and kept before");
}

/// The forms of the kernels of a small model.
fn forms(gpu: &Gpu) -> String {
    let shape = made_up_shape(64, 1, 300);
    let weights = Weights::made_up(gpu, &shape, WeightFormat::F32, &mut |_| {}).unwrap();
    let options = ForwardOptions::default().chunk(8);
    Forward::new(gpu, &shape.config, Arc::new(weights), options).unwrap().variants().to_string()
}

#[test]
fn a_form_that_is_wrong_on_its_first_use_is_replaced_and_reported() {
    if skipped("a_form_that_is_wrong_on_its_first_use_is_replaced_and_reported") {
        return;
    }
    let plain = forms(&common::gpu());
    let (file, right, wrong) = match plain.split(" · ").find_map(|form| form.strip_prefix("matmul: ")).unwrap() {
        "shared" => ("matmul_shared.wgsl", "finish(token, out, sum)", "finish(token, out, sum + 0.5)"),
        form if form.starts_with("tiled") => {
            ("matmul_tiled.wgsl", "let token = first_token", "c00 *= 2.0; let token = first_token")
        }
        form => return eprintln!("SKIPPED a_form_that_is_wrong_on_its_first_use_...: nothing replaces {form}"),
    };
    let kept = tempfile::tempdir().unwrap();
    let broken = folder(file, right, wrong);
    // Without a folder for what is found out, every start would pay.
    let gpu = with(broken.path());
    assert_eq!(forms(&gpu), plain);
    assert_eq!(gpu.take_notes(), Vec::<String>::new());
    let gpu = with(broken.path());
    gpu.keep_in(kept.path()).unwrap();
    let replaced = forms(&gpu);
    assert!(replaced.contains("matmul: direct") && replaced != plain, "{replaced}");
    let notes = gpu.take_notes();
    assert!(notes.len() == 1 && notes[0].contains("another form") && notes[0].contains("matmul"), "{notes:?}");
    assert!(gpu.take_notes().is_empty(), "each is given once");
    let shaders = Some(broken.path().to_owned());
    let gpu = gpu_with(Switches { shaders, first_use: Some(false), ..Switches::from_env().unwrap() });
    gpu.keep_in(kept.path()).unwrap();
    assert_eq!(forms(&gpu), plain, "the switch turns it off");

    // What was found out with the shaders of this build is kept, and believed.
    let start = || {
        let gpu = common::gpu();
        gpu.keep_in(kept.path()).unwrap();
        (forms(&gpu), gpu.take_notes())
    };
    assert_eq!(start(), (plain.clone(), vec![]));
    let mut files = std::fs::read_dir(kept.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|e| e == "forms")).expect("it is kept");
    let mut found: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let cases = found["cases"].as_object_mut().unwrap();
    assert!(cases.len() > 4 && cases.values().all(serde_json::Value::is_null), "{cases:?}");
    let matmul = cases.keys().find(|name| name.starts_with("matmul")).unwrap().clone();
    cases[&matmul] = "it was wrong".into();
    std::fs::write(&file, found.to_string()).unwrap();
    let (forms, notes) = start();
    assert!(forms.contains("matmul: direct") && notes[0].contains("it was wrong"), "{forms} {notes:?}");
}

#[test]
fn a_missing_folder_is_an_error() {
    if skipped("a_missing_folder_is_an_error") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no-shaders");
    let switches = Switches { shaders: Some(missing.clone()), ..Default::default() };
    let Err(error) = Gpu::open_with(&AdapterChoice::Best, switches) else { panic!("it was opened") };
    assert!(matches!(&error, Error::BadShaders { path, .. } if *path == missing), "{error}");
    let output = peregrine().arg("devices").env("PEREGRINE_SHADERS", &missing).output().unwrap();
    refused(&output, 2, &["PEREGRINE_SHADERS", "no-shaders"]);
}

#[test]
fn the_program_reports_the_shader_folder_or_an_error() {
    if no_gpu("the_program_reports_the_shader_folder_or_an_error") {
        return;
    }
    let dir = folder("rms_norm.wgsl", "x", "x");
    std::fs::write(dir.path().join("mrs_norm.wgsl"), "").unwrap();
    let said = "instead of the built-in ones: rms_norm.wgsl";
    let with = |command: &[&str]| peregrine().args(command).env("PEREGRINE_SHADERS", dir.path()).output().unwrap();
    if !READS_SHADERS {
        return refused(&with(&["devices"]), 2, &["PEREGRINE_SHADERS", "--features shader-folder"]);
    }
    let output = with(&["devices"]);
    assert!(stdout(&output).contains("PEREGRINE_SHADERS"), "the switch is listed");
    for command in [&["devices"][..], &["run", "-p", "x", "-n", "1"], &["selftest", "--quick", "--only", "rms_norm"]] {
        let text = stderr(&with(command));
        assert_eq!(text.matches(said).count(), 1, "{command:?}: {text}");
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        assert!(text.contains("not used by any kernel on this adapter: mrs_norm.wgsl"), "{text}");
    }
    let plain = stderr(&peregrine().arg("devices").output().unwrap());
    assert!(!plain.contains("built-in ones"), "{plain}");
}
