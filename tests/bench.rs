//! `peregrine bench`: measurements and output formats.

mod common;
mod program;

use common::no_gpu;
use program::{peregrine, refused, run, stdout};
use serde_json::Value;

/// A tiny shape as a config.json in a folder.
fn small() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.json");
    let text = r#"{"model_type": "falcon_mamba", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "state_size": 16, "time_step_rank": 4, "vocab_size": 300, "tie_word_embeddings": false}"#;
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap().to_owned();
    (dir, config)
}

fn rows(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn bench_measures_a_shape_without_its_weights() {
    if no_gpu("bench_measures_a_shape_without_its_weights") {
        return;
    }
    let (dir, config) = small();
    let (config, picture) = (config.as_str(), dir.path().join("depths.svg"));
    let sizes = ["-p", "40", "-n", "6", "-d", "0,1k", "-r", "2"];
    let shape = ["bench", "--shape", config, "--weights", "f16", "--picture", picture.to_str().unwrap()];
    let output = run(&[shape.as_slice(), &sizes, &["-o", "json"]].concat());
    let rows: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let tests: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["test"].as_str().unwrap()).collect();
    assert_eq!(tests, ["pp40", "tg6", "pp40 @ d1024", "tg6 @ d1024"]);
    for row in rows.as_array().unwrap() {
        assert_eq!(row["samples"].as_array().unwrap().len(), 2);
        for field in [
            "tokens_per_s",
            "chunk",
            "bytes_per_token",
            "read_gb_s",
            "weight_gb_s",
            "stream_gb_s",
            "share_of_stream",
            "gflop_s",
        ] {
            assert!(row[field].as_f64().unwrap() > 0.0, "{field}: {row}");
        }
        for field in ["ms_per_token", "cpu_ms_per_token", "gpu_bytes", "barriers_per_token", "submits_per_token"] {
            assert!(row[field].as_f64().unwrap() > 0.0, "{field}: {row}");
        }
        for field in ["math", "variants", "adapter", "driver", "weights"] {
            assert!(!row[field].as_str().unwrap().is_empty(), "{field}: {row}");
        }
    }
    // Four dispatches per layer, the embedding, the head and the sampler, at any depth.
    assert_eq!(rows[1]["dispatches_per_token"], 15.0);
    for field in ["dispatches_per_token", "bytes_per_token", "gpu_bytes"] {
        assert!(rows[1][field].as_f64().unwrap() > 0.0);
        if field != "gpu_bytes" {
            assert_eq!(rows[1][field], rows[3][field], "{field}");
        }
    }
    assert!(rows[0]["ttft_ms"].as_f64().unwrap() > 0.0 && rows[1]["ttft_ms"].is_null());
    assert!(std::fs::read_to_string(&picture).unwrap().starts_with("<svg"));

    let shape = ["bench", "--shape", config, "-p", "8", "-n", "2", "-r", "1"];
    let csv = stdout(&run(&[shape.as_slice(), &["-o", "csv"]].concat()));
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("model,weights,math"), "{csv}");
    let table = stdout(&run(&[shape.as_slice(), &["--profile", "--tune", "off"]].concat()));
    for line in [
        "| model | size | params | backend | test | t/s |",
        "| pp8 |",
        "| in_proj (matvec) | 3 |",
        "| ssm_step | 3 |",
        "| µs alone | µs back to back |",
    ] {
        assert!(table.contains(line), "{line} is not in:\n{table}");
    }
}

#[test]
fn bench_rejects_bad_arguments() {
    refused(&run(&["bench", "--shape", "mamba-9b"]), 2, &["mamba-9b", "falcon-mamba-7b", "config.json"]);
    assert_eq!(run(&["bench", "-p", "1x"]).status.code(), Some(2));
    if !no_gpu("bench_rejects_bad_arguments") {
        refused(&run(&["bench", "-r", "0"]), 2, &["repetitions"]);
    }
}

#[test]
fn bench_reports_device_time_if_there_are_timestamps() {
    if no_gpu("bench_reports_device_time_if_there_are_timestamps") {
        return;
    }
    let (_dir, config) = small();
    let bench = |output: &str, disabled: &str| {
        let mut command = peregrine();
        command.args(["bench", "--shape", &config, "-p", "8", "-n", "6", "-r", "2", "-o", output]);
        stdout(&command.env("PEREGRINE_DISABLE", disabled).output().unwrap())
    };
    let has_a_clock = common::gpu().caps().timestamps;
    for (disabled, timed) in [("", has_a_clock), ("timestamps", false)] {
        let [prompt, answer] = rows(&bench("json", disabled)).try_into().unwrap();
        let field = |name: &str| answer[name].as_f64();
        assert_eq!(field("gpu_ms_per_token").is_some(), timed, "{answer}");
        if let (Some(busy), Some(all), Some(idle)) =
            (field("gpu_ms_per_token"), field("ms_per_token"), field("gpu_idle"))
        {
            assert!(busy > 0.0 && (idle - (1.0 - busy / all)).abs() < 1e-9, "{answer}");
            // The two clocks may differ slightly.
            assert!((-0.02..1.0).contains(&idle), "{answer}");
        }
        for name in ["gpu_ms_per_token", "gpu_idle"] {
            assert!(prompt[name].is_null(), "{name} is of steps: {prompt}");
        }
        // An unknown cell is empty in every table.
        let csv = bench("csv", disabled);
        let lines: Vec<&str> = csv.lines().collect();
        let at = lines[0].split(',').position(|name| name == "gpu_idle").unwrap();
        let from_the_end = lines[0].split(',').count() - at;
        let cell = |line: &str| line.rsplit(',').nth(from_the_end - 1).map(str::to_owned).unwrap();
        assert_eq!((cell(lines[1]).is_empty(), cell(lines[2]).is_empty()), (true, !timed), "{csv}");
        let table = bench("md", disabled);
        let line = table.lines().rfind(|line| line.starts_with("| tg6 |")).unwrap();
        assert_eq!(line.contains("|  |  |"), !timed, "{table}");
    }
}

#[test]
fn bench_generates_twice_with_sampling_flags() {
    if no_gpu("bench_generates_twice_with_sampling_flags") {
        return;
    }
    let (_dir, config) = small();
    let shape = ["bench", "--shape", &config, "-p", "8", "-n", "4", "-r", "1", "--n-parallel", "1,2", "-d", "0,5"];
    let with = |more: &[&str]| stdout(&run(&[&shape, more].concat()));
    let tests = |rows: &[Value]| rows.iter().map(|row| row["test"].as_str().unwrap().to_owned()).collect::<Vec<_>>();

    let both = rows(&with(&["-o", "json", "--top-k", "5", "--repeat-penalty", "1.5"]));
    let named = tests(&both);
    let at_start = ["pp8", "tg4", "tg4 sampled", "tg4 pl2", "tg4 pl2 sampled"].map(str::to_owned);
    assert_eq!(named[..5], at_start);
    assert_eq!(named[5..], at_start.map(|name| format!("{name} @ d5")));
    // Settings that are not given have llama.cpp's values, as in other commands.
    let how = "temp 0.8, top-k 5, top-p 0.95, min-p 0.05, repeat penalty 1.5 over 64 tokens";
    assert_eq!((&both[1]["sampling"], &both[2]["sampling"]), (&Value::from("greedy"), &Value::from(how)));
    assert!(both[0]["sampling"].is_null());

    let table = with(&["--temp", "0.5"]);
    let costs: Vec<&str> = table.lines().filter(|line| line.starts_with("sampling (temp 0.5, top-k 40")).collect();
    assert_eq!(costs.len(), 4, "{table}");
    for (line, test) in costs.iter().zip(["tg4", "tg4 pl2", "tg4 @ d5", "tg4 pl2 @ d5"]) {
        assert!(line.contains(&format!(" beside greedy, {test}: ")), "{line}");
        assert!(line.contains(" µs a token, ") && line.ends_with(" %"), "{line}");
    }
    // Without settings there is no second measurement.
    let plain = with(&[]);
    assert!(!plain.contains("sampl"), "{plain}");

    refused(&run(&[&shape, &["--top-p", "1.5"][..]].concat()), 2, &["top_p is 1.5"]);
    refused(&run(&["bench", "--longest", "8k", "--temp", "1"]), 2, &["--longest", "--temp"]);
}

#[test]
fn bench_compares_pictures_with_a_transformer_of_the_same_width() {
    if no_gpu("bench_compares_pictures_with_a_transformer_of_the_same_width") {
        return;
    }
    let shape = ["bench", "--shape", "vim-tiny", "--weights", "f32", "-r", "1", "--no-warmup"];
    let measured = rows(&stdout(&run(&[&shape[..], &["--image", "32", "--batch", "2", "-o", "json"]].concat())));
    let models: Vec<&str> = measured.iter().map(|row| row["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["vim-tiny", "deit-tiny tiled", "deit-tiny stored"]);
    for row in &measured {
        for field in ["pictures_per_s", "seconds_best", "seconds_mean", "gflop_s", "gpu_bytes", "dispatches"] {
            assert!(row[field].as_f64().unwrap() > 0.0, "{field}: {row}");
        }
        assert_eq!((&row["tokens"], &row["batch"]), (&Value::from(5), &Value::from(2)));
        // What was computed before, and the parameters of the dispatches.
        let [counted, planned] = ["gpu_bytes", "planned_bytes"].map(|field| row[field].as_u64().unwrap());
        assert!((planned..planned + 64 * 1024).contains(&counted), "{counted} of {planned}: {row}");
    }

    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("pictures.svg");
    let dry = ["--dry-run", "--image", "224,1248", "--batch", "1", "--picture", picture.to_str().unwrap()];
    let table = stdout(&run(&[&shape[..], &dry].concat()));
    assert_eq!(table.lines().filter(|line| line.contains("| - | - |")).count(), 6, "{table}");
    // Two matrices of 6085 x 6085 scores for each of three heads.
    let line = table.lines().find(|line| line.starts_with("| deit-tiny stored | 1248x1248 | 6085 | 1 |")).unwrap();
    let bytes: f64 = line.split(" | ").nth(8).unwrap().parse().unwrap();
    assert!((900.0..1000.0).contains(&bytes), "{line}");
    assert!(std::fs::read_to_string(&picture).unwrap().starts_with("<svg"));
}

#[test]
fn bench_takes_sizes_of_pictures_with_shapes_that_read_pictures() {
    refused(&run(&["bench", "--image", "224"]), 2, &["--image", "vim-tiny"]);
    refused(&run(&["bench", "--shape", "mamba-130m", "--dry-run"]), 2, &["--dry-run", "vim-tiny"]);
    refused(&run(&["bench", "--shape", "vim-tiny", "--longest"]), 2, &["--longest"]);
    refused(&run(&["bench", "--shape", "vim-tiny", "-r", "0"]), 2, &["--repetitions", "--dry-run"]);
}
