//! Tokenizers, templates and streams of real checkpoints.

mod common;

use common::{fixture, shipped};
use peregrine::Error;
use peregrine::runtime::Checkpoint;
use peregrine::text::{Message, Specials, Template, TextStream, Tokenizer};
use serde_json::Value;

fn json(path: std::path::PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| u32::try_from(v.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn tokenizer_cases_of_both_families_pass() {
    for name in ["falcon-tiny", "mamba-tiny"] {
        let checkpoint = Checkpoint::open(fixture(name)).unwrap();
        let tokenizer = checkpoint.tokenizer().unwrap();
        let cases = json(fixture(name).join("tokenizer_cases.json"));
        let cases = cases["cases"].as_array().unwrap();
        assert!(cases.len() >= 20);
        for case in cases {
            let (text, expected) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
            assert_eq!(tokenizer.encode(text, Specials::Parse).unwrap(), expected, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&expected), case["decoded"].as_str().unwrap(), "{name}: {text:?}");
            // Streaming token by token gives the same text.
            let mut stream = TextStream::default();
            let pieces: Vec<String> =
                expected.iter().map(|id| stream.push(tokenizer.bytes(*id).unwrap_or_default())).collect();
            assert_eq!(pieces.concat() + &stream.finish(), case["decoded"].as_str().unwrap(), "{name}: {text:?}");
        }
    }
}

#[test]
fn rendered_chats_equal_the_fixture() {
    let checkpoint = Checkpoint::open(fixture("falcon-tiny")).unwrap();
    let cases = json(fixture("falcon-tiny").join("tokenizer_cases.json"));
    let chats = cases["chat"].as_array().unwrap();
    assert!(!chats.is_empty());
    for chat in chats {
        let turns = chat["messages"].as_array().unwrap();
        let messages: Vec<Message> =
            turns.iter().map(|m| Message::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap())).collect();
        let spans = checkpoint.render(&messages, chat["add_generation_prompt"].as_bool().unwrap()).unwrap();
        let text: String = spans.iter().map(|span| span.text.as_str()).collect();
        assert_eq!(text, chat["text"].as_str().unwrap());
        assert_eq!(checkpoint.encode(&spans).unwrap(), ids(&chat["ids"]));
    }
}

#[test]
fn typed_special_tokens_never_become_special_ids() {
    for dir in [fixture("falcon-tiny"), fixture("mamba-tiny"), shipped("tiny-chat")] {
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let tokenizer = checkpoint.tokenizer().unwrap();
        assert!(!tokenizer.special_texts().is_empty());
        for special in tokenizer.special_texts() {
            for typed in [special.clone(), format!("a{special}b"), format!("{special}{special}\n {special}")] {
                let literal = tokenizer.encode(&typed, Specials::Literal).unwrap();
                assert!(!literal.iter().any(|id| tokenizer.is_special(*id)), "{typed:?} gave {literal:?}");
                assert_eq!(tokenizer.decode(&literal), typed);
                let parsed = tokenizer.encode(&typed, Specials::Parse).unwrap();
                assert!(parsed.iter().any(|id| tokenizer.is_special(*id)), "{typed:?} parsed as {parsed:?}");
            }
        }
        if !checkpoint.has_template() {
            continue;
        }
        // In a conversation there are as many special ids as with harmless text.
        let specials_in = |content: String| {
            let spans = checkpoint.render(&[Message::new("user", content)], true).unwrap();
            let ids = checkpoint.encode(&spans).unwrap();
            ids.into_iter().filter(|id| tokenizer.is_special(*id)).collect::<Vec<_>>()
        };
        let forged = format!("{}\u{fdd0}x{}", tokenizer.special_texts().concat(), tokenizer.special_texts()[0]);
        assert_eq!(specials_in(forged), specials_in("hello".to_owned()), "{}", dir.display());
    }
}

#[test]
fn ids_without_a_token_are_listed() {
    let of = |dir| Checkpoint::open(dir).unwrap().ids_without_token();
    assert_eq!(of(fixture("falcon-tiny")), [300]);
    assert_eq!(of(fixture("mamba-tiny")), [285, 286, 287]);
    assert!(of(shipped("tiny-chat")).is_empty());
}

#[test]
fn an_invalid_tokenizer_is_rejected_by_name() {
    for bad in ["", "{", r#"{"model":{"type":"BPE"},"decoder":{"type":"ByteLevel"}}"#] {
        let error = Tokenizer::from_json("here.json", bad.as_bytes()).err().unwrap();
        assert!(matches!(error, Error::Tokenizer { .. }) && error.to_string().contains("here.json"), "{error}");
    }
    for other in ["{}", "[1]", r#"{"model":{"type":"Unigram"},"decoder":{"type":"ByteLevel"}}"#] {
        let error = Tokenizer::from_json("here.json", other.as_bytes()).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    let mut json = json(fixture("falcon-tiny").join("tokenizer.json"));
    json["decoder"] = serde_json::json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    let error = Tokenizer::from_json("here.json", json.to_string().as_bytes()).err().unwrap();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// Templates in the style of ten model families, against Jinja2 3 set up as in transformers.
#[test]
fn templates_of_ten_families_render_as_in_jinja2() {
    let mut rendered = 0;
    for name in ["chatml", "falcon", "llama3", "mistral", "zephyr", "gemma", "phi", "tools", "generation", "whitespace"]
    {
        let golden = json(fixture("templates").join(format!("{name}.json")));
        let template = Template::new(name, golden["template"].as_str().unwrap()).unwrap();
        for (i, case) in golden["cases"].as_array().unwrap().iter().enumerate() {
            let messages: Vec<Message> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| Message::new(m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
                .collect();
            let answer_next = case["add_generation_prompt"].as_bool().unwrap();
            let mut variables = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>"});
            variables.as_object_mut().unwrap().extend(case["variables"].as_object().cloned().unwrap_or_default());
            let spans = template.render_with(&messages, answer_next, &[], &variables);
            match (&case["expected"], &case["error"]) {
                (Value::String(expected), _) => {
                    let spans = spans.unwrap_or_else(|e| panic!("{name} {i}: {e}"));
                    let text: String = spans.iter().map(|span| span.text.as_str()).collect();
                    assert_eq!(text, *expected, "{name} {i}");
                    rendered += 1;
                }
                (_, error) => {
                    let said = spans.unwrap_err().to_string();
                    assert!(said.contains(error.as_str().unwrap()) && said.contains(name), "{name} {i}: {said}");
                }
            }
        }
    }
    assert!(rendered >= 50, "{rendered}");
}

#[test]
fn strftime_now_gives_the_year_and_rejects_bad_formats() {
    let year = |format: &str| {
        Template::new("t", &format!("{{{{ strftime_now('{format}') }}}}")).unwrap().render(&[], false, &[])
    };
    let text = year("%Y-%m-%d").unwrap()[0].text.clone();
    assert!(text.len() == 10 && text.starts_with("20"), "{text}");
    assert!(year("%!").is_err());
}
