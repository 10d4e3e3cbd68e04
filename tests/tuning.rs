//! Kernel tuning: every mode gives the same text, and measured results are cached.

mod common;

use common::{made_up_shape, step};
use peregrine::format::WeightFormat;
use peregrine::gpu::Gpu;
use peregrine::model::{Forward, ForwardOptions, Tune, Weights};
use sha2::Digest;
use std::path::Path;
use std::sync::Arc;

/// The kernel variants, and the tokens after a prompt.
fn run(gpu: &Gpu, tune: Tune) -> (String, Vec<u32>) {
    let shape = made_up_shape(64, 2, 300);
    let weights = Weights::made_up(gpu, &shape, WeightFormat::Bf16, &mut |_| {}).unwrap();
    let options = ForwardOptions::default().chunk(32).tune(tune);
    let mut forward = Forward::new(gpu, &shape.config, Arc::new(weights), options).unwrap();
    pollster::block_on(forward.prefill(0, &[3, 1, 4, 1, 5, 9, 2, 6], |_| Ok(()))).unwrap();
    let first = forward.choose_after(0).unwrap();
    let mut tokens = pollster::block_on(forward.chosen(first)).unwrap();
    forward.set_decoding(&[0]).unwrap();
    tokens.extend((0..12).map(|_| step(&mut forward)));
    (forward.variants().to_string(), tokens)
}

fn kept(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}

/// The file of compiled pipelines.
fn pipelines(dir: &Path) -> Option<std::path::PathBuf> {
    let mut files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|e| e == "pipelines"))
}

#[test]
fn every_tuning_mode_gives_the_same_text_and_results_are_cached() {
    if common::no_gpu("every_tuning_mode_gives_the_same_text_and_results_are_cached") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let gpu = common::gpu();
    gpu.keep_in(dir.path()).unwrap();
    let (portable, text) = run(&gpu, Tune::Off);
    let (by_table, same) = run(&gpu, Tune::Static);
    assert_eq!(text, same);
    assert!(kept(dir.path()).is_empty(), "only measured results are cached");
    eprintln!("off: {portable}\nstatic: {by_table}");

    let (tuned, same) = run(&gpu, Tune::Auto);
    eprintln!("auto: {tuned}");
    assert_eq!(text, same);
    let files = kept(dir.path());
    assert_eq!(files.len(), 1);

    // The cached result is used without measuring again.
    let written = std::fs::read_to_string(&files[0]).unwrap();
    let mut changed: serde_json::Value = serde_json::from_str(&written).unwrap();
    for named in by_table.split(" · ") {
        let (what, form) = named.split_once(": ").unwrap();
        changed["forms"][what] = form.into();
    }
    std::fs::write(&files[0], changed.to_string()).unwrap();
    assert_eq!(run(&gpu, Tune::Auto).0, by_table);
    // Every measured variant is listed with its time.
    let timed = changed["us"].as_object().unwrap();
    assert!(timed.values().flat_map(|forms| forms.as_object().unwrap().values()).all(|us| us.as_f64().unwrap() > 0.0));
    assert!(changed["forms"].as_object().unwrap().keys().all(|what| timed.contains_key(what)), "{written}");
    // A damaged file, or one with unknown variants, is measured again.
    for damaged in ["{", "{}", &written.replace("matmul", "matmul of old")] {
        std::fs::write(&files[0], damaged).unwrap();
        assert_eq!(run(&gpu, Tune::Auto).1, text);
        assert_ne!(std::fs::read_to_string(&files[0]).unwrap(), damaged);
    }
}

#[test]
fn an_application_keeps_what_was_found_out() {
    if common::no_gpu("an_application_keeps_what_was_found_out") {
        return;
    }
    let start = |found| {
        let gpu = common::gpu();
        gpu.keep_findings(found);
        let (variants, text) = run(&gpu, Tune::Static);
        (variants, text, gpu.kernels_compiled(), gpu.findings().unwrap(), gpu.take_notes())
    };
    let (variants, text, compiled, mut found, notes) = start(Default::default());
    assert_eq!((found.len(), notes), (1, vec![]), "one finding: all forms are right");
    let (again, same, fewer, ..) = start(found.clone());
    assert_eq!((&again, &same), (&variants, &text));
    assert!(fewer < compiled, "no case ran again: {fewer} of {compiled} kernels");
    // A form that was found to be wrong is not used.
    let kept = found.values_mut().next().unwrap();
    let mut known: serde_json::Value = serde_json::from_str(kept).unwrap();
    for (case, fault) in known["cases"].as_object_mut().unwrap() {
        if case.starts_with("matmul") {
            *fault = "y[0] is wrong".into();
        }
    }
    *kept = known.to_string();
    let (other, same, _, _, notes) = start(found);
    assert_eq!(same, text);
    assert!(other != variants && notes.iter().any(|note| note.contains("y[0] is wrong")), "{other}, {notes:?}");
    assert_eq!(common::gpu().findings(), None);
}

#[test]
fn compiled_pipelines_are_cached_if_the_backend_supports_it() {
    if common::no_gpu("compiled_pipelines_are_cached_if_the_backend_supports_it") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = |damage: Option<&dyn Fn(Vec<u8>) -> Vec<u8>>| {
        let gpu = common::gpu();
        let file = || pipelines(dir.path());
        if let (Some(damage), Some(file)) = (damage, file()) {
            std::fs::write(&file, damage(std::fs::read(&file).unwrap())).unwrap();
        }
        gpu.keep_in(dir.path()).unwrap();
        let (_, text) = run(&gpu, Tune::Static);
        gpu.save_pipelines().unwrap();
        if gpu.info().backend == "Vulkan" {
            assert!(file().is_some_and(|file| std::fs::metadata(file).unwrap().len() > 0), "the cache was written");
        }
        text
    };
    let first = text(None);
    assert_eq!(first, text(None), "with the pipelines of the first run");
    assert_eq!(first, text(Some(&|_| b"not a cache".to_vec())), "with a damaged file");
    assert_eq!(first, text(Some(&|_| vec![])), "with an empty file");
    // From another driver, or damaged, with a matching checksum and without.
    for byte in [0, 8, 12, 16, 17, 20, 24, 30, 36, 44, 50, 58, 63, 70] {
        for mended in [false, true] {
            let gpu = common::gpu();
            let Some(file) = pipelines(dir.path()) else { return };
            let good = std::fs::read(&file).unwrap();
            let (mut data, sum) = (good[..good.len() - 32].to_vec(), &good[good.len() - 32..]);
            *data.get_mut(byte).expect("a header at least") ^= 1;
            let sum = if mended { sha2::Sha256::digest(&data).to_vec() } else { sum.to_vec() };
            std::fs::write(&file, [data, sum].concat()).unwrap();
            gpu.keep_in(dir.path()).unwrap();
            gpu.flush().unwrap_or_else(|e| panic!("byte {byte}: {e}"));
            std::fs::write(&file, good).unwrap();
        }
    }
    assert_eq!(first, text(Some(&|file| [&file[..50], &[file[50] ^ 1], &file[51..]].concat())), "with a flipped byte");
}
