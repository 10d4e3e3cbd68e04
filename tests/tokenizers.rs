//! Tokenizers compared with transformers: the ids of unusual texts, with tokenizer.json and its companion files changed as
//! in real checkpoints.

mod common;

use peregrine::text::{ChunkedText, Specials, Tokenizer, TokenizerSettings};
use serde_json::{Value, json};
use std::path::Path;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| u32::try_from(v.as_u64().unwrap()).unwrap()).collect()
}

/// A JSON file with these fields replaced.
fn changed(folder: &Path, file: &str, fields: &Value) -> Value {
    let mut json = read(&folder.join(file));
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json
}

fn tokenizer(folder: &Path, tokenizer: &Value, config: &Value) -> Tokenizer {
    let settings = TokenizerSettings::new(changed(folder, "tokenizer_config.json", config), Value::Null);
    let json = changed(folder, "tokenizer.json", tokenizer);
    Tokenizer::from_json_with("tokenizer.json", json.to_string().as_bytes(), &settings).unwrap()
}

#[test]
fn unusual_texts_have_the_ids_of_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = read(&root.join("tests/fixtures/tokenizers/expected.json"));
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(texts.len() >= 100);
    let mut compared = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let tokenizer = tokenizer(&root.join(case["folder"].as_str().unwrap()), &case["tokenizer"], &case["config"]);
        for (text, expected) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let expected = ids(expected);
            assert_eq!(tokenizer.encode_text(text, Specials::Parse).unwrap(), expected, "{name}: {text:?}");
            // In chunks the same ids, with BOS and EOS once.
            let mut chunks = ChunkedText::of_text(&tokenizer, Specials::Parse, "text", text.as_bytes());
            let mut all = vec![];
            while let Some(chunk) = chunks.next(4).unwrap() {
                all.extend(chunk.ids);
            }
            assert_eq!(all, expected, "{name}: {text:?} by chunks");
            compared += 1;
        }
    }
    assert!(compared >= 1500, "{compared}");
}

#[test]
fn bos_and_eos_are_added_to_whole_texts_only() {
    let folder = common::fixture("mamba-tiny");
    let flags = json!({"tokenizer_class": "GPTNeoXTokenizer", "add_bos_token": true, "add_eos_token": true});
    let tokenizer = tokenizer(&folder, &json!({}), &flags);
    assert_eq!(tokenizer.around(), &[vec![0], vec![0]]);
    let inner = tokenizer.encode("Hi there", Specials::Literal).unwrap();
    assert_eq!(tokenizer.encode_text("Hi there", Specials::Literal).unwrap(), [&[0], &inner[..], &[0]].concat());
    assert!(!inner.contains(&0));
}

#[test]
fn an_unsupported_post_processor_is_rejected() {
    let mut json = read(&common::fixture("mamba-tiny").join("tokenizer.json"));
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    json["post_processor"] =
        json!({"type": "TemplateProcessing", "single": [text, text], "pair": [text, text], "special_tokens": {}});
    let error = Tokenizer::from_json("here.json", json.to_string().as_bytes()).err().unwrap().to_string();
    assert!(error.contains("here.json") && error.contains("post_processor"), "{error}");
}
