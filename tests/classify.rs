//! The commands for pictures: classify, features, eval --pictures, inspect, quantize.

mod common;
mod program;

use common::{Expected, no_gpu, shipped};
use peregrine::vision::VisionCheckpoint;
use program::{piped, refused, run, stderr, stdout};
use serde_json::Value;
use std::path::Path;

fn samples() -> String {
    shipped("vim-digits").join("samples").display().to_string()
}

fn sample(name: &str) -> String {
    shipped("vim-digits").join("samples").join(name).display().to_string()
}

#[test]
fn a_folder_of_digits_is_classified_without_a_model() {
    if no_gpu("a_folder_of_digits_is_classified_without_a_model") {
        return;
    }
    let output = run(&["classify", &samples(), "--top", "2"]);
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 20);
    for line in text.lines() {
        // Files are named NUMBER-DIGIT.png.
        let (path, classes) = line.split_once("  ").unwrap();
        let digit = path.trim_end().strip_suffix(".png").unwrap().rsplit('-').next().unwrap();
        // The model takes one sample for another digit.
        let said = if path.contains("10-5") { "9" } else { digit };
        assert!(classes.starts_with(&format!("{said} ")) && classes.matches('%').count() == 2, "{line}");
    }
    assert!(stderr(&output).contains("20 pictures in "), "{}", stderr(&output));

    let json = stdout(&run(&["classify", &sample("04-2.png"), "--json", "--top", "1"]));
    let line: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&line["classes"][0]["class"], &line["classes"][0]["name"]), (&2.into(), &"2".into()));
    assert!(line["classes"][0]["probability"].as_f64().unwrap() > 0.5);
}

#[test]
fn standard_input_labels_and_unreadable_pictures() {
    if no_gpu("standard_input_labels_and_unreadable_pictures") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let labels: String = (0..10).map(|i| format!("digit {i}\n")).collect();
    std::fs::write(path("labels"), labels).unwrap();
    let bytes = std::fs::read(sample("06-3.png")).unwrap();
    let text = stdout(&piped(&["classify", "-", "--labels", &path("labels")], &bytes));
    assert!(text.starts_with("-  digit 3 "), "{text}");
    std::fs::write(path("short"), "one\n").unwrap();
    refused(&run(&["classify", &sample("06-3.png"), "--labels", &path("short")]), 2, &["1 lines", "10 classes"]);

    // The others are classified, and the exit code says that one failed.
    std::fs::write(path("bad.png"), b"\x89PNG no").unwrap();
    let output = run(&["classify", &path("bad.png"), &sample("06-3.png")]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("bad.png: ") && said.contains("1 of 2 pictures could not be read"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    refused(&run(&["classify", &path("none*.png")]), 2, &["no file matches"]);
    refused(&run(&["classify", &sample("06-3.png"), "-m", &shipped("tiny-chat").display().to_string()]), 3, &["vim"]);
    refused(&run(&["run", "-m", &shipped("vim-digits").display().to_string(), "-p", "a"]), 3, &["classify"]);
}

#[test]
fn features_are_written_with_their_shapes() {
    if no_gpu("features_are_written_with_their_shapes") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let to = out.display().to_string();
    let pictures = [sample("00-0.png"), sample("10-5.png")];
    let arguments = ["features", &pictures[0], &pictures[1], "-o", &to, "--layers", "1,3", "--image", "40x48"];
    stdout(&run(&arguments));
    let features = Expected::read(&out);
    assert_eq!(features.shape("class_token"), [2, 64]);
    for map in ["map", "layer.1", "layer.3"] {
        assert_eq!(features.shape(map), [2, 64, 10, 12], "{map}");
    }
    refused(&run(&arguments), 2, &["already exists"]);
    let again: Vec<&str> = arguments.into_iter().chain(["--force", "--class-only"]).collect();
    stdout(&run(&again));
    let names: Vec<String> = Expected::read(&out).names().map(str::to_owned).collect();
    assert!(!names.contains(&"map".to_owned()) && names.contains(&"layer.3".to_owned()), "{names:?}");
    refused(&run(&["features", &pictures[0], "-o", &to, "--force", "--layers", "9"]), 2, &["layers 0 to 3"]);
}

#[test]
fn pictures_are_rated_and_weights_quantized() {
    if no_gpu("pictures_are_rated_and_weights_quantized") {
        return;
    }
    let list = shipped("vim-digits").join("eval.jsonl").display().to_string();
    let text = stdout(&run(&["eval", "--pictures", &list]));
    assert!(text.contains("95.00 % of 20 correct, 95.00 % in the top 5"), "{text}");

    // A folder for each class.
    let dir = tempfile::tempdir().unwrap();
    for (class, name) in [("0", "00-0.png"), ("5", "11-5.png"), ("7", "00-0.png")] {
        let folder = dir.path().join("set").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(sample(name), folder.join(name)).unwrap();
    }
    let set = dir.path().join("set").display().to_string();
    let json: Value = serde_json::from_str(&stdout(&run(&["eval", "--pictures", &set, "--json"]))).unwrap();
    assert_eq!((&json["pictures"]["top_1"], &json["pictures"]["asked"]), (&2.into(), &3.into()));
    std::fs::create_dir(dir.path().join("set").join("cat")).unwrap();
    std::fs::copy(sample("00-0.png"), dir.path().join("set/cat/a.png")).unwrap();
    refused(&run(&["eval", "--pictures", &set]), 3, &["no class \"cat\""]);

    let model = shipped("vim-digits").display().to_string();
    let text = stdout(&run(&["inspect", "-m", &model]));
    for word in ["Vision Mamba: 4 layers", "parameters   171146", "32x32", "65 tokens", "10 classes", "2048x2048"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    for format in ["f16", "q8_0"] {
        let out = dir.path().join(format).display().to_string();
        stdout(&run(&["quantize", "-m", &model, "-w", format, "-o", &out]));
        let text = stdout(&run(&["eval", "--pictures", &list, "-m", &out]));
        assert!(text.contains(format) && text.contains("95.00 % of 20 correct"), "{format}: {text}");
        refused(&run(&["quantize", "-m", &model, "-w", format, "-o", &out]), 2, &["already exists"]);
    }
    same_tensors(&shipped("vim-digits"), &dir.path().join("f16"));
    refused(&run(&["quantize", "-m", &model, "-w", "nf4", "-o", "x"]), 2, &["nf4", "picture models"]);
}

/// f16 to f16 keeps every value.
fn same_tensors(one: &Path, other: &Path) {
    let [one, other] = [one, other].map(|dir| VisionCheckpoint::open(dir).unwrap());
    let [first, second] = [one.tensors().unwrap(), other.tensors().unwrap()];
    let values = |tensors: &peregrine::model::VimTensors<'_>| -> Vec<(String, Vec<f32>)> {
        tensors.all().map(|tensor| (tensor.name.clone(), tensor.to_f32())).collect()
    };
    assert_eq!(one.vim(), other.vim());
    assert!(values(&first) == values(&second));
}
