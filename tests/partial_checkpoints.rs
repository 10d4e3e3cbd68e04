//! An unusable tokenizer, template or generation config only affects what needs it.

mod common;
mod program;

use common::{fixture, no_gpu, shipped};
use peregrine::Error;
use peregrine::format::WeightFormat;
use peregrine::runtime::{Checkpoint, Existing, ExportOptions, SamplingDefaults};
use peregrine::text::{CHATML, Message, Specials, Template};
use program::{refused, run, stderr, stdout};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// A copy of a folder with these fields set in one of its files.
fn changed(from: &Path, file: &str, fields: Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let path = dir.path().join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    std::fs::write(path, json.to_string()).unwrap();
    dir
}

fn template(source: impl Into<Value>) -> TempDir {
    changed(&shipped("tiny-chat"), "tokenizer_config.json", json!({"chat_template": source.into()}))
}

fn said(result: peregrine::Result<impl Sized>) -> String {
    result.err().expect("it is refused").to_string()
}

const HELLO: &[&str] = &["user"];

fn render(checkpoint: &Checkpoint) -> peregrine::Result<()> {
    checkpoint.render(&[Message::new(HELLO[0], "hello")], true).map(drop)
}

#[test]
fn a_broken_generation_config_stops_sampling_only() {
    let dir = changed(&shipped("tiny-chat"), "config.json", json!({}));
    std::fs::write(dir.path().join("generation_config.json"), "{\"temperature\": ").unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let problem = said(checkpoint.sampling(&SamplingDefaults::default(), 0));
    assert!(problem.contains("generation_config.json"), "{problem}");
    assert_eq!(checkpoint.eos(), Checkpoint::open(shipped("tiny-chat")).unwrap().eos());
    render(&checkpoint).unwrap();
    checkpoint.tensors().unwrap();
}

#[test]
fn a_broken_template_stops_chats_only() {
    for source in ["{% for m in messages %}", "{{ x |", &"{% if x %}".repeat(20_000), &"x".repeat(300_000)] {
        let dir = template(source);
        let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert!(!checkpoint.has_template());
        let problem = checkpoint.template_problem().unwrap().to_string();
        assert!(problem.contains("tokenizer_config.json"), "{problem}");
        assert_eq!(said(render(&checkpoint)), problem);
        checkpoint.tokenizer().unwrap().encode("Once", Specials::Literal).unwrap();
        let options = ExportOptions { weights: WeightFormat::Q8_0, existing: Existing::Refuse };
        checkpoint.export(dir.path().join("new.gguf"), options, &mut |_| {}).unwrap();
        // Another template replaces it.
        checkpoint.set_template(Template::new("t", CHATML).unwrap());
        assert!(checkpoint.template_problem().is_none());
        render(&checkpoint).unwrap();
    }
    let own = template("{{ messages }}");
    std::fs::write(own.path().join("chat_template.jinja"), b"\xff\xfe{").unwrap();
    let checkpoint = Checkpoint::open(own.path()).unwrap();
    assert!(said(render(&checkpoint)).contains("chat_template.jinja: it is not UTF-8 text"));
}

#[test]
fn an_unknown_tokenizer_stops_text_only() {
    let model = json!({"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"});
    for (fields, words) in [
        (json!({"model": model, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}}), "WordPiece"),
        (json!({"decoder": {"type": "Sequence", "decoders": []}}), "Sequence"),
        (json!({"decoder": null}), "decoder"),
        (json!({"model": {"type": "BPE"}}), "not a tokenizer"),
    ] {
        let dir = changed(&shipped("tiny-chat"), "tokenizer.json", fields);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let problem = said(checkpoint.tokenizer());
        assert!(problem.contains("tokenizer.json") && problem.contains(words), "{problem}");
        assert_eq!(said(render(&checkpoint)), problem);
        assert!(checkpoint.ids_without_token().is_empty());
        let options = ExportOptions { weights: WeightFormat::Q8_0, existing: Existing::Refuse };
        checkpoint.export(dir.path().join("new"), options, &mut |_| {}).unwrap();
        // A GGUF file would have to name the tokenizer.
        let refused = checkpoint.export(dir.path().join("new.gguf"), options, &mut |_| {});
        assert!(said(refused).contains("tokenizer"));
    }
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(shipped("tiny-chat").join(file), dir.path().join(file)).unwrap();
    }
    std::fs::write(dir.path().join("tokenizer_config.json"), "{").unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert!(matches!(checkpoint.tokenizer().err(), Some(Error::BadJson { .. })));
    assert!(said(render(&checkpoint)).contains("tokenizer_config.json"));
}

#[test]
fn templates_without_a_default_are_named() {
    let named = json!([{"name": "rag", "template": "r"}, {"name": "tool_use", "template": "t"}]);
    let checkpoint = Checkpoint::open(template(named).path()).unwrap();
    let problem = said(render(&checkpoint));
    assert!(problem.contains("rag, tool_use") && problem.contains("default"), "{problem}");
    assert!(checkpoint.template_problem().is_none() && !checkpoint.has_template());
    let one = json!([{"name": "default", "template": "{{ messages }}"}, {"name": "rag", "template": "r"}]);
    render(&Checkpoint::open(template(one).path()).unwrap()).unwrap();
    let none = Checkpoint::open(fixture("mamba-tiny")).unwrap();
    assert!(said(render(&none)).contains("tokenizer_config.json: it has no chat_template"));
    let file = Checkpoint::open(fixture("gguf").join("tiny-F16.gguf")).unwrap();
    if !file.has_template() {
        assert!(said(render(&file)).contains("tokenizer.chat_template"));
    }
}

#[test]
fn special_tokens_have_their_names_in_any_template() {
    let fields = json!({"pad_token": {"content": "<pad>"}, "sep_token": null, "image_token": "<image>"});
    let dir = changed(&shipped("tiny-chat"), "tokenizer_config.json", fields);
    let mut checkpoint = Checkpoint::open(dir.path()).unwrap();
    let source = "{{ eos_token }}{{ pad_token }}{{ image_token }}{{ sep_token is defined }}{{ cls_token is defined }}";
    checkpoint.set_template(Template::new("t", source).unwrap());
    let spans = checkpoint.render(&[Message::new("user", "x")], true).unwrap();
    assert_eq!(spans[0].text, "<|endoftext|><pad><image>FalseFalse");
    assert!(!spans[0].literal && spans.len() == 1);
}

#[test]
fn bos_and_eos_survive_conversion_to_gguf() {
    let around = |first: &str, last: &str| {
        let special = |text: &str| json!({"SpecialToken": {"id": text, "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let tokens: serde_json::Map<String, Value> = [(first, if first == "<|padding|>" { 1 } else { 0 }), (last, 0)]
            .map(|(text, id)| (text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]})))
            .into_iter()
            .collect();
        json!({"post_processor": {"type": "TemplateProcessing", "single": [special(first), text, special(last)],
               "pair": [text, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": tokens}})
    };
    let options = ExportOptions { weights: WeightFormat::F16, existing: Existing::Refuse };
    for (first, id) in [("<|padding|>", 1), ("<|endoftext|>", 0)] {
        let dir = changed(&fixture("mamba-tiny"), "tokenizer.json", around(first, "<|endoftext|>"));
        let old = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(old.tokenizer().unwrap().around(), &[vec![id], vec![0]]);
        let (file, folder) = (dir.path().join("new.gguf"), dir.path().join("new"));
        old.export(&file, options, &mut |_| {}).unwrap();
        let new = Checkpoint::open(&file).unwrap();
        new.export(&folder, options, &mut |_| {}).unwrap();
        for new in [new, Checkpoint::open(&folder).unwrap()] {
            for text in ["", "Hello world", "<|endoftext|>"] {
                let [old, new] =
                    [&old, &new].map(|c| c.tokenizer().unwrap().encode_text(text, Specials::Parse).unwrap());
                assert_eq!(old, new, "{text:?}");
            }
        }
    }
}

#[test]
fn commands_that_need_no_chat_run_without_a_template() {
    if no_gpu("commands_that_need_no_chat_run_without_a_template") {
        return;
    }
    let dir = template("{% for m in messages %}");
    let model = dir.path().to_str().unwrap();
    let out = dir.path().join("l.safetensors");
    stdout(&run(&["run", "-m", model, "-p", "Once upon a time", "-n", "2"]));
    stdout(&run(&["logits", "-m", model, "--ids", "5,6", "--force", "-o", out.to_str().unwrap()]));
    let inspected = stdout(&run(&["inspect", "-m", model]));
    assert!(inspected.contains("template     unusable: chat template of "), "{inspected}");
    refused(&run(&["run", "-m", model, "-cnv", "-p", "Hi"]), 3, &["tokenizer_config.json", "line 1"]);
    let given = run(&["run", "-m", model, "-cnv", "-p", "Hi", "-n", "2", "--chat-template", "chatml"]);
    assert!(given.status.success(), "{}", stderr(&given));
    let dir = changed(&shipped("tiny-chat"), "tokenizer.json", json!({"decoder": null}));
    let model = dir.path().to_str().unwrap();
    stdout(&run(&["logits", "-m", model, "--ids", "5,6", "--force", "-o", out.to_str().unwrap()]));
    assert!(stdout(&run(&["inspect", "-m", model])).contains("token ids only"));
    refused(&run(&["run", "-m", model, "-p", "Once"]), 3, &["tokenizer.json", "decoder"]);
}
