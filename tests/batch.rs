//! `peregrine batch`: answers equal those of single runs, bad lines do not stop it, and an interrupted batch resumes.

mod common;
mod program;

use common::no_gpu;
use program::{answer, peregrine, refused, run, stderr, stdout};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn write(dir: &Path, lines: &[String]) -> PathBuf {
    let path = dir.join("in.jsonl");
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    path
}

fn chat(id: &str, question: &str) -> String {
    let messages = json!([{"role": "user", "content": question}]);
    let body = json!({"model": "any", "messages": messages, "temperature": 0, "max_tokens": 40});
    json!({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}).to_string()
}

fn story(id: &str, prompt: Value, more: Value) -> String {
    let mut body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 20});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
}

fn batch(input: &Path, output: &Path, more: &[&str]) -> std::process::Output {
    let paths = [input, output].map(|path| path.to_str().unwrap());
    run(&[&["batch", "-i", paths[0], "-o", paths[1]], more].concat())
}

/// The answers by custom_id; each must occur once.
fn answers(output: &Path) -> HashMap<String, Value> {
    let text = std::fs::read_to_string(output).unwrap();
    let mut answers = HashMap::new();
    for line in text.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let id = answer["custom_id"].as_str().map_or_else(|| answer["error"]["line"].to_string(), str::to_owned);
        assert!(answers.insert(id, answer).is_none(), "twice: {line}");
    }
    answers
}

#[test]
fn a_batch_equals_single_runs_and_bad_lines_do_not_stop_it() {
    if no_gpu("a_batch_equals_single_runs_and_bad_lines_do_not_stop_it") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.jsonl");
    let mut lines: Vec<String> = (0..12).map(|i| chat(&format!("sum-{i}"), &format!("What is {i} plus 2?"))).collect();
    lines.extend([
        "{ not json".to_owned(),
        r#"{"url": "/v1/completions", "body": {"prompt": "a"}}"#.to_owned(),
        String::new(),
        story("story", json!("Once upon a time"), json!({})),
        story("ids", json!([[1, 2, 3], [4]]), json!({"temperature": 1.2, "seed": 3, "top_k": 0})),
        story("stop", json!("Once upon a time"), json!({"stop": ["Ravi"]})),
        story("many", json!("Once upon a time"), json!({"n": 2, "temperature": 1.0, "logprobs": 1})),
        story("bias", json!("a"), json!({"logit_bias": {"12": 1, "12a": 1}})),
        story("unknown", json!("a"), json!({"temprature": 1})),
        story("id out of range", json!([999_999]), json!({})),
        story("kind", json!("a"), json!({"temperature": "hot"})),
        story("range", json!("a"), json!({"top_p": 7})),
        story("tools", json!("a"), json!({"tools": [1]})),
        story("story", json!("once more"), json!({})),
        json!({"custom_id": "url", "url": "/v1/images", "body": {}}).to_string(),
        json!({"custom_id": "empty", "url": "/v1/completions", "body": {"prompt": ""}}).to_string(),
    ]);
    let input = write(dir.path(), &lines);
    let done = batch(&input, &output, &["--slots", "4"]);
    let said = stderr(&done);
    assert!(done.status.success(), "{said}");
    // Each bad line has an error reply; a repeated id has one besides its answer.
    let text = std::fs::read_to_string(&output).unwrap();
    let repeated = text.lines().position(|line| line.contains("earlier line")).unwrap_or_else(|| panic!("{text}"));
    let others: Vec<&str> = text.lines().enumerate().filter(|(i, _)| *i != repeated).map(|(_, line)| line).collect();
    std::fs::write(&output, others.join("\n") + "\n").unwrap();
    let answers = answers(&output);
    assert_eq!(answers.len(), lines.len() - 2, "{said}");
    for i in 0..12 {
        let response = &answers[&format!("sum-{i}")]["response"];
        let message = &response["body"]["choices"][0];
        assert_eq!(message["message"]["content"], format!("{i} plus 2 is {}.", i + 2), "{response}");
        assert_eq!((response["status_code"].as_u64(), message["finish_reason"].as_str()), (Some(200), Some("stop")));
        let usage = &response["body"]["usage"];
        let counts = ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| usage[name].as_u64().unwrap());
        assert!(counts[0] > 5 && counts[1] > 3 && counts[2] == counts[0] + counts[1], "{usage}");
    }
    let alone = answer(&run(&["run", "-p", "Once upon a time", "-n", "20", "--temp", "0"]));
    let choice = |id: &str| &answers[id]["response"]["body"]["choices"][0];
    assert_eq!(
        (choice("story")["text"].as_str(), choice("story")["finish_reason"].as_str()),
        (Some(&*alone), Some("length"))
    );
    assert_eq!(choice("stop")["text"].as_str(), alone.split("Ravi").next());
    assert_eq!(answers["ids"]["response"]["body"]["choices"].as_array().unwrap().len(), 2);
    for (id, named) in [
        ("id out of range", "999999"),
        ("kind", "temperature is \"hot\""),
        ("range", "top_p is 7"),
        ("tools", "tools is not supported"),
        ("bias", "logit_bias[\"12a\"] is not a token id"),
        ("unknown", "temprature is not a known field"),
        ("url", "/v1/chat/completions"),
        ("empty", "the prompt is empty"),
    ] {
        let response = &answers[id]["response"];
        assert_eq!(response["status_code"], 400, "{response}");
        let message = response["body"]["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{id}: {message}");
    }
    let many = answers["many"]["response"]["body"]["choices"].as_array().unwrap();
    assert_eq!(many.iter().map(|choice| choice["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1]);
    assert!(many.iter().all(|choice| choice["logprobs"]["tokens"].as_array().unwrap().len() == 20), "{many:?}");
    for line in ["13", "14"] {
        assert!(answers[line]["error"]["message"].as_str().unwrap().starts_with(&format!("line {line}: ")));
    }
    assert!(said.contains("27 answered (11 with an error)"), "{said}");
}

#[test]
fn a_killed_batch_resumes_where_it_was() {
    if no_gpu("a_killed_batch_resumes_where_it_was") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (output, whole) = (dir.path().join("out.jsonl"), dir.path().join("whole.jsonl"));
    let sampled = json!({"temperature": 1.0, "max_tokens": 60});
    let lines: Vec<String> =
        (0..40).map(|i| story(&format!("{i}"), json!(format!("Once upon a time {i}")), sampled.clone())).collect();
    let input = write(dir.path(), &lines);
    stdout(&batch(&input, &whole, &["--slots", "4"]));

    let paths = [&input, &output].map(|path| path.to_str().unwrap().to_owned());
    let mut child = peregrine()
        .args(["batch", "-i", &paths[0], "-o", &paths[1], "--slots", "4"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::fs::metadata(&output).map_or(0, |file| file.len()) < 2000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // As if killed in the middle of a line.
    let text = std::fs::read_to_string(&output).unwrap();
    let before = text.lines().count();
    assert!(before < 40, "it was killed too late");
    std::fs::write(&output, format!("{text}{{\"id\":\"batch_req_9")).unwrap();

    let said = stderr(&batch(&input, &output, &["--slots", "3"]));
    assert!(said.contains(&format!("{before} skipped")), "{said}");
    let text_of = |answer: &Value| answer["response"]["body"]["choices"][0]["text"].as_str().unwrap().to_owned();
    let (resumed, whole) = (answers(&output), answers(&whole));
    assert_eq!(resumed.len(), 40);
    for (id, answer) in &whole {
        assert_eq!(text_of(&resumed[id]), text_of(answer), "{id}");
    }
    // A third run has nothing to do.
    let said = stderr(&batch(&input, &output, &[]));
    assert!(said.contains("0 answered (0 with an error), 40 skipped"), "{said}");
}

/// The line that answers a request, without its newline.
fn answer_to(id: &str) -> String {
    json!({"id": "batch_req_1", "custom_id": id, "response": {"status_code": 200}, "error": null}).to_string()
}

#[test]
fn a_batch_does_not_change_a_file_it_did_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (write(dir.path(), &[chat("a", "b")]), dir.path().join("out"));
    let (mine, no_end) = (answer_to("z") + "\n", "the only copy of a thesis, without a line end");
    for text in
        [no_end, "a thesis\nof two lines", "\n", " ", "{}", "{\"id\":7", &(mine.clone() + no_end), &(mine + "{}")]
    {
        std::fs::write(&output, text).unwrap();
        refused(&batch(&input, &output, &[]), 2, &["out", "is not an answer of a batch", "--force"]);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), text);
    }
}

#[test]
fn a_batch_that_cannot_start_does_not_touch_its_output() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (write(dir.path(), &[chat("a", "b")]), dir.path().join("out"));
    let begun = answer_to("z") + "\n{\"id\":\"batch_req_2\",\"custom_id\":\"a";
    let answer = answer_to("a");
    let pieces = (1..answer.len()).step_by(6).map(|end| answer[..end].to_owned());
    for begun in pieces.chain([begun, answer.clone()]) {
        std::fs::write(&output, &begun).unwrap();
        let no_model = batch(&input, &output, &["-m", dir.path().join("no-model").to_str().unwrap()]);
        refused(&no_model, 3, &["no-model"]);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), begun);
    }
    let missing = dir.path().join("missing.jsonl");
    refused(&batch(&missing, &dir.path().join("new"), &[]), 1, &["missing.jsonl"]);
    refused(&batch(&input, &dir.path().join("new"), &["-m", missing.to_str().unwrap()]), 3, &["missing.jsonl"]);
    assert!(!dir.path().join("new").exists());
    refused(&batch(&input, &dir.path().join("no-folder/out"), &[]), 1, &["cannot write", "no-folder"]);
}

#[test]
fn the_input_file_is_never_the_output_under_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let input = write(dir.path(), &[chat("a", "b")]);
    std::fs::write(&input, chat("a", "b")).unwrap(); // one line without an end
    let before = std::fs::read(&input).unwrap();
    let hard = dir.path().join("hard");
    std::fs::hard_link(&input, &hard).unwrap();
    let mut names = vec![input.clone(), hard, dir.path().join(".").join("in.jsonl")];
    #[cfg(unix)]
    {
        names.push(dir.path().join("link"));
        std::os::unix::fs::symlink(&input, &names[3]).unwrap();
    }
    for name in names {
        refused(&batch(&input, &name, &[]), 2, &["it is the input file"]);
        let arguments = ["batch", "-i", "-", "-o", name.to_str().unwrap()];
        let from_stdin = peregrine().args(arguments).stdin(std::fs::File::open(&input).unwrap()).output().unwrap();
        refused(&from_stdin, 2, &["it is the input file"]);
        assert_eq!(std::fs::read(&input).unwrap(), before);
    }
}

#[test]
fn two_lines_with_one_id_both_survive_a_resumed_batch() {
    if no_gpu("two_lines_with_one_id_both_survive_a_resumed_batch") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.jsonl");
    let input = write(dir.path(), &[chat("twice", "What is 1 plus 2?"), chat("twice", "What is 3 plus 4?")]);
    stdout(&batch(&input, &output, &[]));
    let text = std::fs::read_to_string(&output).unwrap();
    let (refusals, answers): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains("earlier line"));
    assert_eq!((refusals.len(), answers.len()), (1, 1), "{text}");
    assert!(answers[0].contains("1 plus 2 is 3."), "{text}");
    // Killed after one of the two was written, with and without its newline.
    for written in [refusals[0].to_owned() + "\n", answers[0].to_owned() + "\n", answers[0].to_owned()] {
        std::fs::write(&output, &written).unwrap();
        let said = stderr(&batch(&input, &output, &[]));
        assert!(said.contains("1 skipped"), "{said}");
        let text = std::fs::read_to_string(&output).unwrap();
        assert!(text.starts_with(&written));
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("1 plus 2 is 3.") && text.contains("earlier line"), "{text}");
    }
}

#[test]
fn a_batch_answers_on_stdout_and_force_starts_over() {
    if no_gpu("a_batch_answers_on_stdout_and_force_starts_over") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (write(dir.path(), &[chat("a", "What is 1 plus 2?")]), dir.path().join("out"));
    let answered = |text: String| {
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(answer["response"]["body"]["choices"][0]["message"]["content"], "1 plus 2 is 3.", "{text}");
    };
    for _ in 0..2 {
        answered(stdout(&batch(&input, Path::new("-"), &[])));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no file called - was made");
    for begun in ["not ours\n".to_owned(), answer_to("a") + "\n"] {
        std::fs::write(&output, begun).unwrap();
        stdout(&batch(&input, &output, &["--force"]));
        answered(std::fs::read_to_string(&output).unwrap());
    }
    refused(&batch(&input, &input, &["--force"]), 2, &["it is the input file"]);
}
