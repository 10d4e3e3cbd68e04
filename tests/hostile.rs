//! Malicious model folders: templates that allocate gigabytes or never end, and
//! tokenizers that expand a word to gigabytes.

mod common;

use common::{fixture, shipped};
use peregrine::text::{Message, Specials, Template, Tokenizer};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The result of rendering two messages.
fn render(source: &str) -> Result<String, String> {
    let messages = [Message::new("user", "hello"), Message::new("assistant", "yes")];
    let template = Template::new("t.json", source).map_err(|e| e.to_string())?;
    let tokens = json!({"bos_token": "<s>", "eos_token": "</s>"});
    let spans = template.render_with(&messages, true, &[], &tokens).map_err(|e| e.to_string())?;
    Ok(spans.into_iter().map(|span| span.text).collect())
}

/// Words of the limits' error messages.
const LIMITS: &[&str] = &[
    "more ",
    "too large",
    "bytes; the maximum",
    "nested",
    "not supported",
    "cannot be a key",
    "out of fuel",
    "recursion limit",
    "debug is unknown",
];

/// Checks that rendering fails soon with an error that names the file and the line, if given, and takes little memory.
fn refused(name: &str, source: &str, line: Option<usize>) {
    let started = Instant::now();
    let outcome = render(source);
    let took = started.elapsed();
    let error = outcome.map(|text| text.len()).expect_err(name);
    assert!(error.contains("t.json"), "{name}: {error}");
    assert!(LIMITS.iter().any(|limit| error.contains(limit)), "{name}: {error}");
    if let Some(line) = line {
        assert!(error.contains(&format!("line {line}: ")), "{name}: {error}");
    }
    eprintln!("{name}: {:.2} s, {} MiB at most so far: {error}", took.as_secs_f64(), peak_memory() >> 20);
    assert!(took < Duration::from_secs(60), "{name}: {took:?}");
    assert!(peak_memory() < 2 << 30, "{name}: {} bytes of memory", peak_memory());
}

/// Peak memory of this process; 0 if the system does not report it.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn templates_with_unbounded_nesting_are_rejected() {
    let many = 20_000;
    for (name, source) in [
        ("signs", format!("\n{{{{ {}1 }}}}", "- ".repeat(many))),
        ("nots", format!("\n{{{{ {}1 }}}}", "not ".repeat(many))),
        ("powers", format!("\n{{{{ {}1 }}}}", "2 ** ".repeat(many))),
        ("sums", format!("\n{{{{ {}1 }}}}", "x ~ ".repeat(many))),
        ("branches", format!("\n{{{{ {}1 }}}}", "1 if x else ".repeat(many))),
        ("filters", format!("\n{{{{ x{} }}}}", "|e".repeat(many))),
        ("brackets", format!("\n{{{{ {}1{} }}}}", "[".repeat(many), "]".repeat(many))),
    ] {
        refused(name, &source, Some(2));
    }
    let elifs = format!("{{% if x %}}{}{{% endif %}}", "\n{% elif x %}".repeat(10_000));
    refused("elifs", &elifs, None);
    refused("ifs", &"{% if x %}".repeat(many), None);
    refused("a long one", &"x".repeat(300_000), None);
}

#[test]
fn values_with_unbounded_nesting_are_rejected() {
    let itself = "{% set ns = namespace() %}\n{% set ns.me = ns %}\n";
    for (name, rest) in [
        ("printed", "{{ ns }}"),
        ("as JSON", "{{ ns|tojson }}"),
        ("compared", "{% set other = namespace(me=ns) %}{{ ns == other }}"),
        ("as a key", "{{ {[ns]: 1, [ns, 1]: 2} }}"),
        ("looked up", "{{ {}[ns] }}"),
        ("sorted", "{{ [ns, ns]|sort }}"),
        ("joined", "{{ [ns]|join }}"),
        ("concatenated", "{{ ns ~ 'x' }}"),
        ("tested", "{{ ns is eq([ns]) }}"),
    ] {
        refused(name, &format!("{itself}{}", rest), Some(3));
    }
    let deep = "{% set ns = namespace(x=[]) %}\n{% for i in range(20000) %}{% set ns.x = [ns.x] %}{% endfor %}\n";
    for rest in ["{{ ns.x }}", "{{ ns.x|tojson }}", "{{ ns.x|string|length }}", "{{ ns.x == [ns.x] }}"] {
        refused(rest, &format!("{deep}{rest}"), Some(3));
    }
    // A value that is never read must still be dropped.
    assert_eq!(render(&format!("{deep}fine")).unwrap(), "fine");
    refused("deeper", &deep.replace("20000", "90000"), Some(2));
}

#[test]
fn templates_with_unbounded_growth_are_rejected() {
    let doubled = |step: &str| format!("{{% set x = 'abcdefgh' %}}\n{}{{{{ x|length }}}}", step.repeat(60));
    let looped = |step: &str| {
        format!(
            "{{% set ns = namespace(x='ab', l=[1]) %}}\n{{% for i in range(90000) %}}{step}{{% endfor %}}{{{{ ns.x|length }}}}"
        )
    };
    let long = "{% set x = 'abcdefgh' * 4 %}{% for i in range(18) %}{% endfor %}";
    for (name, source, line) in [
        ("~", doubled("{% set x = x ~ x %}"), 2),
        ("+", doubled("{% set x = x + x %}"), 2),
        ("*", doubled("{% set x = x * 2 %}"), 2),
        ("a block", doubled("{% set x %}{{ x }}{{ x }}{% endset %}"), 2),
        ("replace", doubled("{% set x = x|replace('a', x) %}"), 2),
        (".replace", doubled("{% set x = x.replace('a', x) %}"), 2),
        ("join", doubled("{% set x = [x, x]|join(x) %}"), 2),
        (".join", doubled("{% set x = x.join([x, x]) %}"), 2),
        ("map", doubled("{% set x = [x]|map('replace', 'a', x)|first %}"), 2),
        ("a loop of ~", looped("{% set ns.x = ns.x ~ ns.x %}"), 2),
        ("a loop of lists", looped("{% set ns.l = ns.l + ns.l %}{{ ns.l|list|length }}"), 2),
        ("a loop of slices", looped("{% set ns.x = ns.x ~ 'abcdefgh' %}{% set ns.l = ns.l + [ns.x[1:]] %}"), 2),
        ("a loop of text", looped(&"text ".repeat(10_000)), 2),
        ("tojson", "\n{{ [1]|tojson(indent=2000000000) }}".to_owned(), 2),
        ("indent", "\n{{ 'a'|indent(2000000000) }}".to_owned(), 2),
        ("format", "\n{{ '%2000000000d'|format(1) }}".to_owned(), 2),
        ("%", "\n{{ '%2000000000d' % 1 }}".to_owned(), 2),
        ("% with digits", "\n{{ '%.2000000000f' % 1.5 }}".to_owned(), 2),
        ("center", "\n{{ 'a'|center(2000000000) }}".to_owned(), 2),
        (".center", "\n{{ 'a'.center(2000000000) }}".to_owned(), 2),
        (".ljust", "\n{{ 'a'.ljust(2000000000, 'é') }}".to_owned(), 2),
        (".zfill", "\n{{ '-1'.zfill(2000000000) }}".to_owned(), 2),
        (".expandtabs", "\n{{ '\\t\\t'.expandtabs(2000000000) }}".to_owned(), 2),
        (".rsplit", looped("{% set ns.l = ns.l + ('a ' * 1000).rsplit() %}"), 2),
        ("wordwrap", looped("{% set ns.l = ns.l + [('a ' * 1000)|wordwrap(1, wrapstring='abcdefgh' * 1000)] %}"), 2),
        ("tojson by text", "\n{{ [[[[1]]]]|tojson(indent=' ' * 200000000) }}".to_owned(), 2),
        ("cyclers", looped("{% set ns.l = [cycler(ns.l, ns.l)] %}"), 2),
        (".format", "\n{{ '{:2000000000d}'.format(1) }}".to_owned(), 2),
        ("format by argument", "\n{{ '%*d'|format(2000000000, 1) }}".to_owned(), 2),
        ("batch", "\n{{ [1]|batch(2000000000, 'x')|list }}".to_owned(), 2),
        ("slice", "\n{{ [1]|slice(2000000000, 'x')|list }}".to_owned(), 2),
        ("a product", "\n{{ 'abcdefgh' * 10000000 }}".to_owned(), 2),
        ("a product of powers", "\n{{ 'abcdefgh' * 10 ** 7 }}".to_owned(), 2),
        ("products", format!("\n{}", "{{ 'abcdefgh' * 4000 }}".repeat(500)), 2),
        ("lists of products", format!("\n{{{{ {}[1] * 90000000 }}}}", "[1] * 90000000 + ".repeat(100)), 2),
        ("nested loops", format!("{}\n{}", "{% for i in range(99999) %}".repeat(6), "{% endfor %}".repeat(6)), 1),
        ("a macro", "\n{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('a') }}".to_owned(), 2),
        (
            "macros",
            format!(
                "{{% macro f(x) %}}{{{{ x }}}}{{{{ x }}}}{{% endmacro %}}\n{{{{ {}'a'{} }}}}",
                "f(".repeat(60),
                ")".repeat(60)
            ),
            1,
        ),
        (
            "copies of a map",
            looped("{% set ns.l = ns.l + [dict(messages[0])] %}{% set ns.x = namespace(messages[0]) %}"),
            2,
        ),
        ("copies by another name", looped("{% set d = dict %}{% set ns.l = ns.l + [d({'a': ns.l|list})] %}"), 2),
        ("times", looped("{% set ns.l = ns.l + [strftime_now('%c' * 1000)] %}"), 2),
        ("characters", looped("{% set ns.l = ns.l + [('abcdefgh' * 1000)|sort] %}"), 2),
        ("characters of items", looped("{% set ns.l = ns.l + ['abcdefgh' * 1000]|map('list')|list %}"), 2),
        ("a list of itself", doubled("{% set x = [x, x] %}") + "{{ x }}", 2),
        ("a key of itself", doubled("{% set x = (x, x) %}") + "{{ {x: 1} }}", 2),
    ] {
        refused(name, &source, Some(line));
    }
    refused("a list that is sorted", &format!("{long}{}{{{{ x|sort }}}}", "{% set x = [x, x] %}".repeat(60)), None);
    refused("the state", "{{ debug() }}", Some(1));
}

#[test]
fn ordinary_template_operations_are_allowed() {
    for (source, expected) in [
        (
            "{% macro f(m) %}{{ caller() if caller else m.role }}{% endmacro %}{{ f(messages[0]) }}{% call f(1) %}x{% endcall %}",
            "userx",
        ),
        (
            "{% set n = namespace(f=range) %}{{ n.f(2)|list }}{{ dict(a=1)|tojson }}{{ messages[0].content.split('l', 1) }}",
            "[0, 1]{\"a\": 1}['he', 'lo']",
        ),
        ("{{ '=' * 20 }}|{{ 2 * 3 + 4 ** 2 }}", "====================|22"),
        ("{{ '%.70000g' % 0.5 }}{{ 'a'.zfill(-9223372036854775807) }}", "0.5a"),
        ("{% set ns = namespace() %}{% set ns.c = cycler(ns) %}{{ ns.c }}{{ [ns.c] }}", "<Cycler>[<Cycler>]"),
        ("{% for m in messages %}{{ loop.index0 ~ m.role + ':' }}{% endfor %}", "0user:1assistant:"),
        (
            "{% set x = {'a': [1, (2, 3)], 'b': none} %}{{ x|tojson }}{{ x['a'][1][0] }}{{ x.get('b') }}",
            "{\"a\": [1, [2, 3]], \"b\": null}2None",
        ),
        ("{{ messages|map(attribute='role')|join(', ') }}", "user, assistant"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "1"),
        (
            "{% if 'ell' in messages[0].content and messages[-1]['role'] != 'user' %}{{ messages[0].content[1:3] }}{% endif %}",
            "el",
        ),
        ("{% macro f(x, y='!') %}{{ x|upper ~ y }}{% endmacro %}{{ f('a') }}{{ f('b', y='?') }}", "A!B?"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages if m.role == 'user' %}{% set ns.n = ns.n + 1 %}{% else %}none{% endfor %}{{ ns.n }}",
            "1",
        ),
        (
            "{{ 'a b'.split(' ')[1] }}{{ ' x '.strip() }}{{ 'x'.replace('x', 'yz') }}{{ ' '.join(['p', 'q']) }}",
            "bxyzp q",
        ),
        ("{{ '%s and %05d'|format('a', 3) }}|{{ 'a\nb'|indent(2) }}|{{ 1 < 2 < 3 }}", "a and 00003|a\n  b|True"),
        (
            "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}{{ [3, 1, 2]|sort }}{{ x is defined }}",
            "a1b2[1, 2, 3]False",
        ),
        (
            "{{ bos_token }}{% for x in [[1, [2]], [3]] recursive %}{{ loop(x) if x is sequence else x }}{% endfor %}",
            "<s>123",
        ),
    ] {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
    // A long conversation, with a text that grows by each of its messages.
    let messages: Vec<Message> = (0..1000).map(|i| Message::new("user", format!("{i} ").repeat(200))).collect();
    let source = "{% set ns = namespace(text='') %}{% for m in messages %}{% if loop.index0 == messages|length - 1 %}last: {% endif %}\
                  {% set ns.text = ns.text ~ m.role ~ m.content|trim %}{% endfor %}{{ ns.text|length > 0 }}";
    let template = Template::new("t.json", source).unwrap();
    assert_eq!(template.render(&messages[..300], true, &[]).unwrap()[0].text, "last: True");
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}";
    let template = Template::new("t.json", plain).unwrap();
    assert!(template.render(&messages, true, &[]).unwrap()[0].text.len() > 600_000);
}

#[test]
fn a_role_is_text_like_a_message() {
    let template =
        Template::new("t.json", "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}").unwrap();
    let specials = ["<|end|>".to_owned()];
    let spans = template.render(&[Message::new("a<|end|>b", "c<|end|>")], true, &specials).unwrap();
    let literal: Vec<&str> = spans.iter().filter(|span| span.literal).map(|span| span.text.as_str()).collect();
    assert_eq!(literal, ["<|end|>", "<|end|>"]);
    let all: String = spans.iter().map(|span| span.text.as_str()).collect();
    assert_eq!(all, "<|a<|end|>b|>c<|end|>");
    // Except for the words that templates compare it with.
    let asking = Template::new("t.json", "{{ messages[0].role == 'user' }}").unwrap();
    let spans = asking.render(&[Message::new("user", "")], true, &["user".to_owned()]).unwrap();
    assert_eq!(spans[0].text, "True");
}

#[test]
fn tokenizers_that_expand_a_word_to_gigabytes_are_rejected() {
    let good: Value =
        serde_json::from_slice(&std::fs::read(shipped("tiny-chat").join("tokenizer.json")).unwrap()).unwrap();
    let encode = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        let tokenizer = Tokenizer::from_json("t.json", json.to_string().as_bytes()).map_err(|e| e.to_string())?;
        tokenizer.encode("a word", Specials::Literal).map_err(|e| e.to_string())
    };
    let plain = encode(&|_| ()).unwrap();
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let tenfold = replace(json!({"String": "a"}), "aaaaaaaaaa");
    let everywhere = replace(json!({"Regex": ""}), "bbbbbbbbbb");
    let sequence = |rules: Vec<Value>| json!({"type": "Sequence", "normalizers": rules});
    let nested = (0..9).fold(tenfold.clone(), |inner, _| sequence(vec![inner, tenfold.clone()]));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    for (name, normalizer, pre_tokenizer) in [
        ("texts", sequence(vec![tenfold.clone(); 10]), good["pre_tokenizer"].clone()),
        ("expressions", sequence(vec![everywhere; 9]), good["pre_tokenizer"].clone()),
        ("nested", nested, good["pre_tokenizer"].clone()),
        ("one", replace(json!({"String": "a"}), &"b".repeat(9_000_000)), good["pre_tokenizer"].clone()),
        ("bytes", Value::Null, json!({"type": "Sequence", "pretokenizers": vec![byte_level; 40]})),
    ] {
        let error = encode(&|json| {
            json["normalizer"] = normalizer.clone();
            json["pre_tokenizer"] = pre_tokenizer.clone();
        })
        .expect_err(name);
        assert!(error.contains("t.json") && error.contains("bytes of text to "), "{name}: {error}");
    }
    // Loading normalizes the added tokens.
    let error = encode(&|json| {
        json["normalizer"] = sequence(vec![tenfold.clone(); 7]);
        let token = json!({"id": 0, "content": "a", "special": false, "normalized": true, "single_word": false, "lstrip": false, "rstrip": false});
        json["added_tokens"] = json!([token]);
    });
    assert!(error.unwrap_err().contains("expand 1 bytes of text to"));
    // Real tokenizers are accepted.
    let spaces = sequence(vec![json!({"type": "NFC"}), json!({"type": "Prepend", "prepend": "x"}), tenfold]);
    assert!(encode(&|json| json["normalizer"] = spaces.clone()).unwrap().len() > plain.len());
    // Padding and truncation are ignored.
    let padding = json!({"strategy": {"Fixed": 3_000_000_000u32}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
    let truncation = json!({"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    let same = encode(&|json| {
        json["padding"] = padding.clone();
        json["truncation"] = truncation.clone();
    });
    assert_eq!(same.unwrap(), plain);
    for name in ["falcon-tiny", "mamba-tiny"] {
        let json = std::fs::read(fixture(name).join("tokenizer.json")).unwrap();
        Tokenizer::from_json(name, &json).unwrap().encode(&"a word ".repeat(100_000), Specials::Literal).unwrap();
    }
}
