//! `peregrine eval`: perplexity, divergence and accuracy of the shipped model.

mod common;
mod program;

use common::{fixture, no_gpu, shipped};
use peregrine::eval::{self, Reading};
use peregrine::model::{Forward, ForwardOptions, Recipe};
use peregrine::runtime::Checkpoint;
use program::{peregrine, refused, run, stdout};
use serde_json::Value;
use std::path::{Path, PathBuf};

const STORY: &str = "Once upon a time, there was a kind boy called Ravi. Ravi liked to play near the pond. One day, Ravi found \
                     a red boat. He was very happy and took the boat home. His mother said that the boat was pretty.\n";

/// A file in `dir` with the story repeated `times` times.
fn story(dir: &Path, times: usize) -> PathBuf {
    let path = dir.join("story.txt");
    std::fs::write(&path, STORY.repeat(times)).unwrap();
    path
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&run(&[&["eval", "--json"], arguments].concat()))).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_model_equals_itself_and_nearly_equals_another_format() {
    if no_gpu("a_model_equals_itself_and_nearly_equals_another_format") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = story(dir.path(), 5);
    let text = text.to_str().unwrap();
    let model = shipped("tiny-chat");
    let model = model.to_str().unwrap();
    let same = json(&["--text", text, "--against", model, "--ctx", "100"]);
    let (same, against) = (&same["text"], &same["text"]["against"]);
    let tokens = number(&same["tokens"]);
    assert!(tokens > 200.0, "{same}");
    // The first token of each window is not scored.
    assert_eq!(number(&same["scored"]), tokens - (tokens / 100.0).ceil());
    for field in ["kl", "kl_error", "kl_99", "kl_most"] {
        assert_eq!(number(&against[field]), 0.0, "{field}: {against}");
    }
    assert_eq!((&against["same_best"], &against["perplexity"]), (&Value::from(1.0), &same["perplexity"]));
    // The model was trained on such stories, not on their words in another order.
    let mut words: Vec<&str> = STORY.split_whitespace().collect();
    words.sort_unstable();
    let scrambled = dir.path().join("scrambled.txt");
    std::fs::write(&scrambled, words.join(" ")).unwrap();
    let [story, scrambled] = [text, scrambled.to_str().unwrap()]
        .map(|path| number(&json(&["--text", path, "--limit", "45"])["text"]["perplexity"]));
    assert!(1.0 < story && 4.0 * story < scrambled, "{story}, with its words sorted {scrambled}");

    // Without --against the reference is the model as stored, in bf16.
    let other = json(&["--text", text, "-w", "f16", "--ctx", "100"]);
    let against = &other["text"]["against"];
    assert!(other["model"].as_str().unwrap().contains("f16") && against["model"].as_str().unwrap().contains("bf16"));
    assert_eq!(against["perplexity"], same["perplexity"]);
    // Its smallest weights are subnormal in f16.
    let (mean, most) = (number(&against["kl"]), number(&against["kl_most"]));
    assert!(mean > 0.0 && mean < 1e-3 && most >= number(&against["kl_99"]) && most >= mean, "{against}");
    assert!(number(&against["same_best"]) > 0.98, "{against}");

    // The text output has the same values; without a reference it has no comparison.
    let words = stdout(&run(&["eval", "-f", text, "-w", "f16", "--limit", "64"]));
    for word in ["63 of 64 tokens scored, in 1 windows", "perplexity", "against", "KL divergence", "same top-1"] {
        assert!(words.contains(word), "{word} is not in:\n{words}");
    }
    assert!(!stdout(&run(&["eval", "-f", text, "--limit", "64"])).contains("against"));
}

/// Divergence of each format on held-out questions with their answers: limits of about twice the measured values.
#[test]
fn formats_diverge_no_more_than_measured() {
    if no_gpu("formats_diverge_no_more_than_measured") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("held-out.txt");
    let questions = std::fs::read_to_string(shipped("tiny-chat").join("eval.jsonl")).unwrap();
    let texts = questions.lines().step_by(16).map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        format!("{}{}<|im_end|>\n", line["prompt"].as_str().unwrap(), line["answer"].as_str().unwrap())
    });
    std::fs::write(&text, texts.collect::<String>()).unwrap();
    let cost = |format: &str| {
        let scores = json(&["--text", text.to_str().unwrap(), "--parse-special", "--limit", "1536", "-w", format]);
        let against = &scores["text"]["against"];
        let [kl, best] = ["kl", "same_best"].map(|field| number(&against[field]));
        eprintln!("reached | tiny-chat {format} | KL {kl:.1e} | same top-1 {:.2} %", 100.0 * best);
        (kl, best)
    };
    for (format, most, least) in
        [("q8_0", 5e-5, 0.98), ("int8", 5e-5, 0.98), ("q4_0", 4e-3, 0.94), ("nf4", 5e-3, 0.94), ("fp4", 1e-2, 0.92)]
    {
        let (kl, best) = cost(format);
        assert!(kl > 0.0 && kl < most && best > least, "{format}: KL {kl:e}, same top-1 {best}");
        if format == "q8_0" {
            // Rows are too short for blocks of 256.
            assert_eq!(cost("q4_K"), (kl, best));
        }
    }
}

/// Divergence of fast decode steps from exact arithmetic with the same weights: limits of about twice the
/// measured values.
#[test]
fn fast_steps_diverge_little() {
    if no_gpu("fast_steps_diverge_little") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let text = story(dir.path(), 3);
    let model = dir.path().join("q8_0.gguf");
    let model = model.to_str().unwrap();
    let shipped = shipped("tiny-chat");
    run(&["quantize", "-m", shipped.to_str().unwrap(), "-w", "q8_0", "-o", model]);
    let score = |more: &[&str]| {
        json(&[&["--text", text.to_str().unwrap(), "-m", model, "--ctx", "64"], more].concat())["text"].clone()
    };
    let fast = score(&["--math", "fast", "--steps"]);
    let [kl, best] = ["kl", "same_best"].map(|field| number(&fast["against"][field]));
    eprintln!("reached | tiny-chat q8_0, fast steps | KL {kl:.1e} | same top-1 {:.2} %", 100.0 * best);
    assert!(kl > 0.0 && kl < 6e-4 && best > 0.98, "KL {kl:e}, same top-1 {best}");
    // Exact decode steps predict the same as exact prefill.
    let [prompts, steps] = [&[][..], &["--steps"]].map(|more| number(&score(more)["perplexity"]));
    assert!((prompts / steps - 1.0).abs() < 1e-4, "{prompts} {steps}");
}

#[test]
fn perplexity_is_that_of_the_logits() {
    if no_gpu("perplexity_is_that_of_the_logits") {
        return;
    }
    let gpu = common::gpu();
    let checkpoint = Checkpoint::open(fixture("falcon-tiny")).unwrap();
    let load = |weights| {
        let (options, tensors) = (ForwardOptions::default().weights(weights), checkpoint.tensors().unwrap());
        Forward::load(&gpu, checkpoint.config(), &tensors, options, &mut |_| {}).unwrap()
    };
    let mut model = load(Recipe::AsStored);
    let ids = common::Expected::read(&fixture("falcon-tiny").join("expected.safetensors")).ids("ids.64");
    // A window of 20 tokens scores 19; the last of 4 scores 3.
    let report = eval::run(&mut model, None, &ids, (20, Reading::Chunks), &mut |_| {}).unwrap();
    assert_eq!((report.tokens, report.comparison), (60, None));
    let mut loss = 0.0;
    for window in ids.chunks(20) {
        model.reset(0).unwrap();
        let mut rows: Vec<f32> = Vec::new();
        let see = |more: &[f32]| {
            rows.extend_from_slice(more);
            Ok(())
        };
        pollster::block_on(model.prefill_logits(0, window, peregrine::model::Logits::All, see)).unwrap();
        for (row, next) in rows.chunks_exact(model.config().vocab).zip(&window[1..]) {
            let total: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
            loss += total.ln() - f64::from(row[*next as usize]);
        }
    }
    let expected = (loss / 60.0).exp();
    let error = (report.perplexity.value / expected - 1.0).abs();
    assert!(error < 1e-9, "{} is not {expected}", report.perplexity.value);

    // Rounding f32 to bf16 costs more than to f16; both cost little.
    let mut divergence = |weights| {
        let report = eval::run(&mut load(weights), Some(&mut model), &ids, (32, Reading::Chunks), &mut |_| {}).unwrap();
        report.comparison.unwrap().divergence.value
    };
    use peregrine::format::WeightFormat;
    let [same, f16, bf16] =
        [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16].map(|format| divergence(Recipe::To(format)));
    assert!(same == 0.0 && 0.0 < f16 && f16 < bf16 && bf16 < 1e-2, "{same:e} {f16:e} {bf16:e}");
}

#[test]
fn questions_are_answered_and_counted() {
    if no_gpu("questions_are_answered_and_counted") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("questions.jsonl");
    let line = |question: &str, answer: &str| {
        let prompt = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
        serde_json::json!({ "prompt": prompt, "answer": answer }).to_string()
    };
    let questions = [
        line("What is 12 plus 2?", "12 plus 2 is 14."),
        line("What is 3 plus 4?", "3 plus 4 is 8."),
        line("What is 3 plus 4?", "3 plus 4 is 7."),
    ];
    std::fs::write(&path, questions.join("\n")).unwrap();
    let path = path.to_str().unwrap();
    // In batches of one, two and all.
    for slots in ["1", "2", "16"] {
        let got = json(&["--questions", path, "--slots", slots]);
        assert_eq!(got["questions"], serde_json::json!({ "right": 2, "asked": 3 }), "{slots} slots");
        assert!(got["text"].is_null());
    }
    let words = stdout(&run(&["eval", "--questions", path]));
    assert!(words.contains("66.67 % of 3 correct"), "{words}");
}

#[test]
fn texts_and_models_that_cannot_be_scored_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let text = story(dir.path(), 1);
    let text = text.to_str().unwrap();
    let of = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, short, broken) = (of("empty", b""), of("short", b"a"), of("broken", b"ab\xff"));
    refused(&run(&["eval"]), 2, &["--text"]);
    refused(&run(&["eval", "--against", "x", "--questions", "y"]), 2, &["--text"]);
    refused(&run(&["eval", "--text", "/no/such/text"]), 1, &["/no/such/text"]);
    refused(&run(&["eval", "--text", &empty]), 1, &["0 tokens", "two"]);
    refused(&run(&["eval", "--text", &short]), 1, &["1 tokens", "two"]);
    refused(&run(&["eval", "--text", text, "--limit", "1"]), 1, &["1 tokens"]);
    refused(&run(&["eval", "--text", &broken]), 1, &["broken", "UTF-8", "offset 2"]);
    refused(&run(&["eval", "--questions", &empty]), 3, &["no questions"]);
    refused(&run(&["eval", "--questions", text]), 3, &["line 1"]);
    refused(&run(&["eval", "--text", text, "-m", "/no/such/model"]), 3, &["/no/such/model"]);
    if no_gpu("texts_and_models_that_cannot_be_scored_are_rejected") {
        return;
    }
    refused(&run(&["eval", "--text", text, "--against", "/no/such/model"]), 3, &["/no/such/model"]);
    refused(&run(&["eval", "--text", text, "--ctx", "1"]), 2, &["ctx is 1"]);
    let other = fixture("falcon-tiny");
    let mut command = peregrine();
    let output = command.args(["eval", "--text", text, "--against"]).arg(&other).output().unwrap();
    refused(&output, 1, &["2048", "vocabulary"]);
}
