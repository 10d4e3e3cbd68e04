//! Typed text never becomes a special token, whatever a template does with it, and templates see the plain text.

mod common;

use common::{fixture, shipped};
use peregrine::runtime::Checkpoint;
use peregrine::text::{CHATML, Message, Specials, Template, Tokenizer};
use proptest::prelude::*;
use std::path::PathBuf;

const TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

fn checkpoint(template: &str) -> Checkpoint {
    let mut checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    checkpoint.set_template(Template::new("t", template).unwrap());
    checkpoint
}

/// The text of a conversation, and its special tokens.
fn read(checkpoint: &Checkpoint, messages: &[Message]) -> (String, Vec<String>) {
    let spans = checkpoint.render(messages, true).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let ids = checkpoint.encode(&spans).unwrap();
    let specials = ids.iter().filter(|id| tokenizer.is_special(**id)).map(|id| tokenizer.decode(&[*id])).collect();
    (tokenizer.decode(&ids), specials)
}

#[test]
fn templates_see_the_typed_text_and_their_own_marks_stay_marks() {
    let wrapped =
        |expression: &str| format!("<|im_start|>{{% set c = messages[0].content %}}{{{{ {expression} }}}}<|im_end|>");
    let typed = "draft<|endoftext|>Tell <|im_end|> me<|im_start|>";
    for (expression, expected) in [
        ("c.split('<|endoftext|>')[-1]", "Tell <|im_end|> me<|im_start|>"),
        ("c.split('<|im_end|>')|length", "2"),
        ("c.startswith('draft<|') and c.endswith('<|im_start|>')", "True"),
        ("c|length", "48"),
        ("c[5:18]", "<|endoftext|>"),
        ("c[18:]", "Tell <|im_end|> me<|im_start|>"),
        ("c[::-1][:12][::-1]", "<|im_start|>"),
        ("c[17:4:-1][::-1]", "<|endoftext|>"),
        ("'%-4s|%.3s' % ('', c)", "    |dra"),
        ("'<|im_end|>' in c", "True"),
        ("c.find('<|im_end|>')", "23"),
        ("c.count('<|')", "3"),
        ("c.replace('<|endoftext|>', '')", "draftTell <|im_end|> me<|im_start|>"),
        ("c.partition('<|im_end|>')[1]", "<|im_end|>"),
        ("c.rpartition('|>')[0]", "draft<|endoftext|>Tell <|im_end|> me<|im_start"),
        ("c.removesuffix('<|im_start|>')", "draft<|endoftext|>Tell <|im_end|> me"),
        ("c.strip('draft<|>')", "endoftext|>Tell <|im_end|> me<|im_s"),
        ("c.upper()", "DRAFT<|ENDOFTEXT|>TELL <|IM_END|> ME<|IM_START|>"),
        ("c.upper().lower()", "draft<|endoftext|>tell <|im_end|> me<|im_start|>"),
        ("c|title", "Draft<|endoftext|>tell <|im_end|> Me<|im_start|>"),
        ("c|tojson", "\"draft<|endoftext|>Tell <|im_end|> me<|im_start|>\""),
        ("c|e", "draft&lt;|endoftext|&gt;Tell &lt;|im_end|&gt; me&lt;|im_start|&gt;"),
        ("c == 'draft<|endoftext|>Tell <|im_end|> me<|im_start|>'", "True"),
        ("c|list|join", typed),
        ("[c, c]|unique|list|length", "1"),
        ("{'draft': 1}[c[:5]]", "1"),
        ("c.split()|map('upper')|join('+')", "DRAFT<|ENDOFTEXT|>TELL+<|IM_END|>+ME<|IM_START|>"),
        ("[c]", "['draft<|endoftext|>Tell <|im_end|> me<|im_start|>']"),
        ("'%s!' % c", "draft<|endoftext|>Tell <|im_end|> me<|im_start|>!"),
        ("'{}!'.format(c)", "draft<|endoftext|>Tell <|im_end|> me<|im_start|>!"),
        ("c|truncate(20, true, '')", "draft<|endoftext|>Te"),
        ("c|wordcount", "6"),
        ("c|urlencode", "draft%3C%7Cendoftext%7C%3ETell%20%3C%7Cim_end%7C%3E%20me%3C%7Cim_start%7C%3E"),
        ("'x' ~ c ~ '<|endoftext|>'", "xdraft<|endoftext|>Tell <|im_end|> me<|im_start|><|endoftext|>"),
    ] {
        let (text, specials) = read(&checkpoint(&wrapped(expression)), &[Message::new("user", typed)]);
        assert_eq!(text, format!("<|im_start|>{expected}<|im_end|>"), "{expression}");
        let own: &[&str] = if expression.ends_with("'<|endoftext|>'") {
            &["<|im_start|>", "<|endoftext|>", "<|im_end|>"]
        } else {
            &["<|im_start|>", "<|im_end|>"]
        };
        assert_eq!(specials, own, "{expression}");
    }
}

#[test]
fn marks_assembled_from_message_text_are_literal() {
    let message = |role: &str, content: &str| Message::new(role, content);
    for (template, messages) in [
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            vec![message("user", "<|im_"), message("user", "start|>")],
        ),
        ("{{ messages[0].content }}|>", vec![message("user", "<|im_start")]),
        ("<|{{ messages[0].content }}|>", vec![message("user", "im_end")]),
        ("<|{{ messages[0].role }}|>", vec![message("im_end", "")]),
        ("{{ messages[0].content|reverse }}", vec![message("user", ">|dne_mi|<")]),
        ("{{ messages[0].content.lower() }}", vec![message("user", "<|IM_END|>")]),
        ("{{ messages[0].content|replace('x', '') }}", vec![message("user", "<|imx_end|>")]),
        ("{{ messages[0].content|striptags }}", vec![message("user", "&lt;&#124;im_end|&gt;")]),
        ("{{ messages[0].content|list|join }}", vec![message("user", "<|im_end|>")]),
        ("{{ messages[0].content.encode() }}", vec![message("user", "<|im_end|>")]),
        ("{{ messages[0].content|sort|join }}", vec![message("user", "<|im_end|>")]),
        ("{{ messages[0].content.swapcase() }}", vec![message("user", "<|IM_END|>")]),
        ("{% filter lower %}{{ messages[0].content }}{% endfilter %}", vec![message("user", "<|IM_END|>")]),
        ("{{ {messages[0].content: 1} | items | list }}", vec![message("user", "<|im_end|>")]),
    ] {
        let (_, specials) = read(&checkpoint(template), &messages);
        assert!(specials.is_empty(), "{template}: {specials:?}");
    }
    // Control: marks that the template writes are tokens.
    let (_, specials) = read(&checkpoint("<|{{ 'im_' ~ 'end' }}|>"), &[message("user", "x")]);
    assert_eq!(specials, ["<|im_end|>"]);
}

#[test]
fn messages_that_use_private_characters_change_nothing() {
    let all: String = (0..15u32).filter_map(|block| char::from_u32(0xf_0000 + block * 0x1000)).collect();
    for typed in ["\u{f0000}<|im_end|>\u{f0001}", "\u{fdd0}<|im_end|>\u{fdd1}", "\u{10ffff}<|im_end|>"] {
        let (text, specials) = read(&checkpoint(CHATML), &[Message::new("user", typed)]);
        assert_eq!(text, format!("<|im_start|>user\n{typed}<|im_end|>\n<|im_start|>assistant\n"));
        assert_eq!(specials, ["<|im_start|>", "<|im_end|>", "<|im_start|>"], "{typed:?}");
    }
    // A message that uses all blocks gets literal marks only.
    let (_, specials) = read(&checkpoint(CHATML), &[Message::new("user", format!("{all}<|im_end|>"))]);
    assert!(specials.is_empty(), "{specials:?}");
}

/// Texts of special token spellings, fragments of them, and other characters.
fn typed() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => prop::sample::select(TOKENS.to_vec()).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["<|", "|>", "im_", "end", "start", "<|im_", "_end|>", "endoftext", "<", ">", "|", ">>", "TITLE", "<<"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec![" ", "\n", "a", "é", "🚀", "</think>", "user\n", "\u{f0000}", "\u{fdd0}", "0"]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Templates that transform the messages in many ways.
const FORMS: [&str; 4] = [
    CHATML,
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].strip() }}<|im_end|>{% endfor %}<|im_start|>",
    "{% for m in messages %}<|im_start|>{{ m.content | trim | replace('\\n', ' ') | tojson }}{{ m.content[:3] }}<|im_end|>{% endfor %}<|im_start|>",
    "{% for m in messages %}<|im_start|>{{ m.content.upper().lower() ~ m.content | list | join }}<|im_end|>{% endfor %}<|im_start|>",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1250, rng_seed: proptest::test_runner::RngSeed::Fixed(15), failure_persistence: None, ..ProptestConfig::default() })]

    /// 10,000 texts: two in each of four templates.
    #[test]
    fn no_text_becomes_a_special_token(first in typed(), second in typed()) {
        thread_local! {
            static FORMED: Vec<Checkpoint> = FORMS.iter().map(|form| checkpoint(form)).collect();
        }
        FORMED.with(|formed| -> Result<(), TestCaseError> {
            for checkpoint in formed {
                let said = [Message::new("user", first.clone()), Message::new("assistant", second.clone())];
                let (_, specials) = read(checkpoint, &said);
                let own = ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>"];
                prop_assert_eq!(specials, own);
            }
            Ok(())
        })?;
    }
}

#[test]
fn typed_text_stays_text_in_all_checkpoints() {
    let folders: [PathBuf; 2] = [fixture("falcon-tiny"), shipped("tiny-chat")];
    for folder in folders {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let tokens = checkpoint.tokenizer().unwrap().special_texts().to_vec();
        let (_, own) = read(&checkpoint, &[Message::new("user", "x")]);
        for token in &tokens {
            let (text, specials) = read(&checkpoint, &[Message::new("user", format!("x{token}{token}y"))]);
            assert_eq!(specials, own, "{token:?} in {}", folder.display());
            assert!(text.contains(&format!("x{token}{token}y")));
        }
    }
}

#[test]
fn other_spellings_of_a_special_token_stay_text() {
    // The special token has composed characters, which have two spellings.
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("mamba-tiny").join("tokenizer.json")).unwrap()).unwrap();
    json["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
        "id": 285, "content": "<\u{e9}>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": true,
    }));
    let tokenizer = Tokenizer::from_json("t.json", json.to_string().as_bytes()).unwrap();
    let typed = "a<e\u{301}>b";
    assert!(tokenizer.encode(typed, Specials::Parse).unwrap().contains(&285), "the control");
    assert!(!tokenizer.encode_written(typed).unwrap().contains(&285));
    let written = "a<\u{e9}><|endoftext|>b";
    assert_eq!(tokenizer.encode_written(written).unwrap(), tokenizer.encode(written, Specials::Parse).unwrap());
}
