//! Answers under a JSON schema, a regular expression or a grammar: their text, their effect on other sessions, and hostile
//! constraints.

mod common;

use common::{gpu, no_gpu, shipped};
use peregrine::gpu::{FaultSite, InjectedFault};
use peregrine::kernels::case::Random;
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Finish, Prompt, Sampling, Session};
use peregrine::{Constraint, Error};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PROMPT: &str = "Once upon a time";
/// Enough for every constraint below.
const TOKENS: usize = 400;

fn engine(slots: usize) -> Engine {
    Engine::load(&gpu(), checkpoint(), EngineOptions::default().slots(slots), &mut |_| {}).unwrap()
}

fn hot(seed: u64) -> Sampling {
    Sampling::GREEDY.temperature(1.5).seed(seed)
}

/// A constraint with the check of a whole text.
struct Kind {
    name: &'static str,
    constraint: Constraint,
    fits: fn(&str) -> bool,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, constraint, fits| Kind { name, constraint, fits };
    let person = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["old", "young"]}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    });
    let choices = ["a fox", "a (cat)\n", "\"é\" + 7"].map(str::to_owned).to_vec();
    vec![
        kind("object", Constraint::JsonSchema(person), |text| {
            let Ok(Value::Object(map)) = serde_json::from_str(text) else { return false };
            let tags = map.get("tags").and_then(Value::as_array);
            map.len() == 3
                && map["name"].as_str().is_some_and(|name| name.chars().count() <= 12)
                && map["age"].as_u64().is_some_and(|age| age <= 150)
                && tags.is_some_and(|tags| {
                    (1..=3).contains(&tags.len()) && tags.iter().all(|tag| tag == "old" || tag == "young")
                })
        }),
        kind("regular expression", Constraint::Regex("[0-9]{4}-[0-9]{2}-[0-9]{2}".to_owned()), |text| {
            let digit = |(i, c): (usize, char)| if i == 4 || i == 7 { c == '-' } else { c.is_ascii_digit() };
            text.len() == 10 && text.chars().enumerate().all(digit)
        }),
        kind("choices", Constraint::Choice(choices), |text| ["a fox", "a (cat)\n", "\"é\" + 7"].contains(&text)),
        kind(
            "grammar",
            Constraint::Lark(
                "start: term (\"+\" term){1,3} \";\"\nterm: /[0-9]{1,3}/ | \"(\" /[a-z]/ \")\"".to_owned(),
            ),
            |text| {
                let term = |term: &str| match term.strip_prefix('(') {
                    Some(rest) => rest.len() == 2 && rest.ends_with(')') && rest.as_bytes()[0].is_ascii_lowercase(),
                    None => (1..=3).contains(&term.len()) && term.bytes().all(|b| b.is_ascii_digit()),
                };
                text.strip_suffix(';')
                    .is_some_and(|sum| (2..=4).contains(&sum.split('+').count()) && sum.split('+').all(term))
            },
        ),
    ]
}

/// The ids and the text of the continuation of [`PROMPT`], and why it ended.
fn continuation(session: &mut Session, options: &AnswerOptions) -> (Vec<u32>, String, Finish) {
    let tokenizer = session.engine().checkpoint().tokenizer().unwrap();
    let ids = tokenizer.encode(PROMPT, peregrine::text::Specials::Literal).unwrap();
    session.clear().unwrap();
    let mut answer = session.complete(&ids, options).unwrap();
    let text: String = answer.by_ref().map(Result::unwrap).collect();
    (answer.generation().ids().to_vec(), text, answer.finish().unwrap())
}

#[test]
fn every_answer_fits_its_constraint_and_without_it_none_does() {
    if no_gpu("every_answer_fits_its_constraint_and_without_it_none_does") {
        return;
    }
    let engine = engine(1);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let free = AnswerOptions::tokens(24);
    for Kind { name, constraint, fits } in kinds() {
        let options = AnswerOptions::tokens(TOKENS).grammar(engine.checkpoint().grammar(&constraint).unwrap());
        for sampling in [Sampling::GREEDY, hot(1), hot(2)] {
            session.set_sampling(sampling.clone()).unwrap();
            let (_, before, _) = continuation(&mut session, &free);
            assert!(!fits(&before), "{name}: {before:?} fits without the constraint");
            let (_, text, finish) = continuation(&mut session, &options);
            assert!(fits(&text) && finish == Finish::Eos, "{name}: {text:?} ended by {finish:?}");
            // The next answer is free again.
            assert_eq!(continuation(&mut session, &free).1, before, "{name}");
        }
    }
    // Any object: the model may go on within it for as long as it likes.
    let object = AnswerOptions::tokens(TOKENS).grammar(engine.checkpoint().grammar(&Constraint::JsonObject).unwrap());
    session.set_sampling(Sampling::GREEDY).unwrap();
    let (_, text, finish) = continuation(&mut session, &object);
    assert!(text.starts_with('{'), "{text}");
    assert!(finish == Finish::Length || serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
}

#[test]
fn a_grammar_and_other_sessions_do_not_change_each_other() {
    if no_gpu("a_grammar_and_other_sessions_do_not_change_each_other") {
        return;
    }
    let engine = engine(4);
    let kinds = kinds();
    let grammar = engine.checkpoint().grammar(&kinds[0].constraint).unwrap();
    let constrained = AnswerOptions::tokens(TOKENS).grammar(grammar);
    let free = AnswerOptions::tokens(60);
    let asked = [(Sampling::GREEDY, &constrained), (hot(3), &free), (hot(4), &constrained), (Sampling::GREEDY, &free)];
    let alone: Vec<_> = asked
        .iter()
        .map(|(sampling, options)| continuation(&mut engine.session(sampling.clone()).unwrap(), options))
        .collect();
    for round in 0..2 {
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads = asked.iter().map(|(sampling, options)| {
                let mut session = engine.session(sampling.clone()).unwrap();
                scope.spawn(move || continuation(&mut session, options))
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(together, alone, "round {round}");
    }
    // In turn from one thread, token by token.
    let ids = engine.checkpoint().tokenizer().unwrap().encode(PROMPT, peregrine::text::Specials::Literal).unwrap();
    let mut answers: Vec<_> = asked
        .iter()
        .map(|(sampling, options)| {
            engine.session(sampling.clone()).unwrap().into_answer(Prompt::Ids(ids.clone()), options)
        })
        .collect();
    let mut texts = vec![String::new(); asked.len()];
    let mut open = asked.len();
    while open > 0 {
        open = 0;
        for (answer, text) in answers.iter_mut().zip(&mut texts) {
            if let Some(piece) = answer.next() {
                *text += &piece.unwrap();
                open += 1;
            }
        }
    }
    assert_eq!(texts, alone.iter().map(|(_, text, _)| text.clone()).collect::<Vec<_>>());
}

#[test]
fn an_answer_that_was_cut_off_goes_on_in_its_grammar() {
    if no_gpu("an_answer_that_was_cut_off_goes_on_in_its_grammar") {
        return;
    }
    let engine = engine(2);
    let kinds = kinds();
    let grammar = engine.checkpoint().grammar(&kinds[0].constraint).unwrap();
    let options = AnswerOptions::default().grammar(grammar.clone());
    let mut session = engine.session(hot(5)).unwrap();
    let (_, whole, _) = continuation(&mut session, &options.clone().max_tokens(TOKENS));
    let free = continuation(&mut session, &AnswerOptions::tokens(20));
    // By the number of tokens, by a cancel, by a drop.
    let (_, mut said, finish) = continuation(&mut session, &options.clone().max_tokens(3));
    assert_eq!(finish, Finish::Length);
    let mark = session.mark().unwrap();
    let stop = session.cancel_handle();
    let mut answer = session.resume(&options).unwrap();
    said += &answer.next().unwrap().unwrap();
    stop.cancel();
    said.extend(answer.by_ref().map(Result::unwrap));
    assert_eq!(answer.finish(), Some(Finish::Cancelled));
    drop(answer);
    let mut answer = session.resume(&options).unwrap();
    said += &answer.next().unwrap().unwrap();
    drop(answer);
    said.extend(session.resume(&options).unwrap().map(Result::unwrap));
    assert_eq!(said, whole);
    assert!(matches!(session.resume(&options), Err(Error::NothingToResume)));
    // A fork and a moment to go back to keep the place too.
    session.back_to(&mark).unwrap();
    let mut fork = session.fork().unwrap();
    for session in [&mut session, &mut fork] {
        let rest: String = session.resume(&options).unwrap().map(Result::unwrap).collect();
        assert!(whole.ends_with(&rest) && rest.len() < whole.len(), "{rest:?} of {whole:?}");
    }
    // Without the grammar, an answer is free, also after one was dropped at its first token.
    session.back_to(&mark).unwrap();
    drop(session.resume(&options).unwrap());
    assert_eq!(continuation(&mut session, &AnswerOptions::tokens(20)), free);
}

#[test]
fn the_sessions_own_bias_stays() {
    if no_gpu("the_sessions_own_bias_stays") {
        return;
    }
    let engine = engine(1);
    let checkpoint = engine.checkpoint();
    let digits = checkpoint.grammar(&Constraint::Regex("[0-9]{6}".to_owned())).unwrap();
    let options = AnswerOptions::tokens(20).grammar(digits);
    let has_seven = |id: &u32| checkpoint.tokenizer().unwrap().decode(&[*id]).contains('7');
    let vocab = checkpoint.config().vocab as u32;
    let no_seven: Vec<(u32, f32)> = (0..vocab).filter(has_seven).map(|id| (id, f32::NEG_INFINITY)).collect();
    let is_seven = |id: &u32| checkpoint.tokenizer().unwrap().decode(&[*id]) == "7";
    let seven_alone: Vec<(u32, f32)> =
        (0..vocab).filter(|id| !is_seven(id)).map(|id| (id, f32::NEG_INFINITY)).collect();
    let mut session = engine.session(hot(1).logit_bias(seven_alone)).unwrap();
    assert_eq!(continuation(&mut session, &options).1, "777777");
    for seed in 0..5 {
        session.set_sampling(hot(seed).logit_bias(no_seven.clone())).unwrap();
        assert!(!continuation(&mut session, &options).1.contains('7'));
    }
    // If bias and grammar leave nothing, that is an error, and the session goes on.
    let sevens = AnswerOptions::tokens(20).grammar(checkpoint.grammar(&Constraint::Regex("7+".to_owned())).unwrap());
    session.feed(&[20, 21]).unwrap();
    let error = session.resume(&sevens).map(drop).unwrap_err();
    assert!(matches!(error, Error::AllBanned { .. }), "{error}");
    assert_eq!(session.resume(&options).unwrap().map(Result::unwrap).collect::<String>().len(), 6);
}

#[test]
fn a_grammar_of_the_empty_text_ends_at_once() {
    if no_gpu("a_grammar_of_the_empty_text_ends_at_once") {
        return;
    }
    let engine = engine(1);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let free = continuation(&mut session, &AnswerOptions::tokens(9));
    let nothing = engine.checkpoint().grammar(&Constraint::Choice(vec![String::new()])).unwrap();
    let (ids, _, finish) = continuation(&mut session, &AnswerOptions::tokens(9).grammar(nothing));
    assert_eq!((ids, finish), (vec![], Finish::Eos));
    assert_eq!(continuation(&mut session, &AnswerOptions::tokens(9)), free);
}

#[test]
fn faults_and_losses_of_the_device_change_no_answer() {
    if no_gpu("faults_and_losses_of_the_device_change_no_answer") {
        return;
    }
    let engine = engine(2);
    let kinds = kinds();
    let options = AnswerOptions::tokens(TOKENS).grammar(engine.checkpoint().grammar(&kinds[0].constraint).unwrap());
    let mut session = engine.session(hot(6)).unwrap();
    let (_, expected, _) = continuation(&mut session, &options);
    let (_, free, _) = continuation(&mut session, &AnswerOptions::tokens(20));
    let mut faults = 0;
    for round in 0..6usize {
        let mut random = Random::new(round as u64);
        let kinds = [InjectedFault::Refused, InjectedFault::Lost];
        session.clear().unwrap();
        let ids = engine.checkpoint().tokenizer().unwrap().encode(PROMPT, peregrine::text::Specials::Literal).unwrap();
        session.feed(&ids).unwrap();
        engine.gpu().inject(move |site| {
            let here = matches!(site, FaultSite::Submit | FaultSite::Submitted) && random.below(20) == 0;
            here.then(|| kinds[round % 2])
        });
        let mut said = String::new();
        let mut begun = false;
        loop {
            // The first call may fail before the answer begins; later ones go on with it.
            let answer = if begun { session.resume(&options) } else { session.complete(&[], &options) };
            let outcome = answer.and_then(|mut answer| {
                begun = true;
                answer.try_for_each(|piece| piece.map(|piece| said += &piece))
            });
            match outcome {
                Ok(()) | Err(Error::NothingToResume) => break,
                Err(error) => {
                    faults += 1;
                    assert!(matches!(error, Error::DeviceLost { .. } | Error::Gpu { .. }), "{error:?}");
                    engine.gpu().inject(|_| None);
                    engine.recover(&mut |_| {}).unwrap();
                }
            }
        }
        engine.gpu().inject(|_| None);
        assert_eq!(said, expected, "round {round}");
        assert_eq!(continuation(&mut session, &AnswerOptions::tokens(20)).1, free, "round {round}");
    }
    assert!(faults >= 3, "only {faults} faults");
}

fn checkpoint() -> Checkpoint {
    Checkpoint::open(shipped("tiny-chat")).unwrap()
}

/// Hostile constraints by name: each must be an error or a grammar, soon.
fn hostile() -> Vec<(String, Constraint)> {
    let schema = |name: &str, value: Value| (name.to_owned(), Constraint::JsonSchema(value));
    let regex = |name: &str, text: String| (name.to_owned(), Constraint::Regex(text));
    let lark = |name: &str, text: String| (name.to_owned(), Constraint::Lark(text));
    let chain = |many: usize| -> Value {
        let defs: serde_json::Map<String, Value> = (0..many)
            .map(|i| (format!("a{i}"), json!({"$ref": format!("#/$defs/a{}", i + 1)})))
            .chain([(format!("a{many}"), json!({"type": "null"}))])
            .collect();
        json!({"$defs": defs, "$ref": "#/$defs/a0"})
    };
    let wide = |many: usize| -> Value {
        let properties: serde_json::Map<String, Value> =
            (0..many).map(|i| (format!("p{i}"), json!({"type": "string"}))).collect();
        json!({"type": "object", "properties": properties})
    };
    let products = |levels: usize| {
        (0..levels).fold(json!({"type": "null"}), |inner, _| json!({"anyOf": [inner, inner], "allOf": [inner, inner]}))
    };
    let lines = |line: &dyn Fn(usize) -> String, many: usize| (0..many).map(line).collect::<String>();
    vec![
        schema("chain of references", chain(900)),
        schema("reference to itself", json!({"$ref": "#"})),
        schema(
            "reference around",
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ),
        schema("intersection with itself", json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        schema("reference to a file", json!({"$ref": "file:///etc/passwd"})),
        schema("reference to the network", json!({"$ref": "http://127.0.0.1:9/schema.json"})),
        schema("reference to nothing", json!({"$ref": "#/$defs/none"})),
        schema("object of many properties", wide(999)),
        schema("product of alternatives", products(4)),
        schema("long array", json!({"type": "array", "minItems": 1_000_000_000u64, "items": {"type": "null"}})),
        schema(
            "array of at most many",
            json!({"type": "array", "maxItems": 100_000_000u64, "items": {"type": "object"}}),
        ),
        schema("long string", json!({"type": "string", "minLength": 1_000_000_000u64})),
        schema("string of at most many", json!({"type": "string", "maxLength": 100_000_000u64})),
        schema("string of negative length", json!({"type": "string", "maxLength": -1})),
        schema("huge number", json!({"type": "integer", "minimum": 1e308, "maximum": -1e308})),
        schema(
            "many multiples",
            json!({"allOf": (1..60).map(|n| json!({"type": "integer", "multipleOf": n})).collect::<Vec<_>>()}),
        ),
        schema("fine multiples", json!({"type": "number", "multipleOf": 1e-300})),
        schema("pattern", json!({"type": "string", "pattern": "^(a?){1000}(b|c*)*$"})),
        schema(
            "patterns of names",
            json!({"patternProperties": (0..100).map(|i| (format!(".*{i}.*x{{0,50}}"), json!({}))).collect::<serde_json::Map<_, _>>()}),
        ),
        schema("large enumeration", json!({"enum": (0..20_000).collect::<Vec<_>>()})),
        schema("no schema", json!([1])),
        schema("nothing allowed", json!(false)),
        schema("types that are none", json!({"type": ["x", 7, null]})),
        schema("keywords of wrong types", json!({"type": "object", "properties": [], "required": {}, "items": "x"})),
        schema("settings of the compiler", json!({"x-guidance": {"nothing": 7}, "type": "null"})),
        regex("repetitions of repetitions", "((((a{1,99}){1,99}){1,99}){1,99}){1,99}".to_owned()),
        regex("many alternatives of anything", format!("({})*", vec![".*a.*b"; 2000].join("|"))),
        regex("lookahead", "a(?=b)".to_owned()),
        regex("open bracket", "(".to_owned()),
        regex("open class", "[a-".to_owned()),
        regex("end of a slash", "a/b\\/\n\"c".to_owned()),
        regex("backslash at the end", "a\\".to_owned()),
        regex("exponential states", "(a|b)*a(a|b){200}c".to_owned()),
        regex("anything", "(?s:.*)".to_owned()),
        regex("nothing", String::new()),
        regex("all of Unicode", "\\p{L}{1,1000}\\PL{1,1000}".to_owned()),
        regex("deep brackets", format!("{}a{}", "(".repeat(120), ")".repeat(120))),
        regex("deep repetitions", format!("a{}", "*".repeat(60_000))),
        regex("deep negations", format!("a{}", "{1,2}".repeat(12_000))),
        lark("chain of rules", format!("start: r0\n{}r4500: \"a\"\n", lines(&|i| format!("r{i}: r{}\n", i + 1), 4500))),
        lark(
            "chain of terminals",
            format!("start: T0\n{}T4000: \"a\"\n", lines(&|i| format!("T{i}: T{}\n", i + 1), 4000)),
        ),
        lark("rule of itself", "start: start".to_owned()),
        lark("rule around", "start: a\na: b\nb: a".to_owned()),
        lark("terminal of itself", "start: T\nT: T \"a\"".to_owned()),
        lark("left recursion", "start: start start | \"a\" | ".to_owned()),
        lark("repetitions of repetitions", "start: ((((\"a\"{1,99}){1,99}){1,99}){1,99}){1,99}".to_owned()),
        lark("unknown rule", "start: nothing".to_owned()),
        lark("import", "%import python (name)\nstart: name".to_owned()),
        lark("import of a file", "%import .secret.x\nstart: x".to_owned()),
        lark("no start", "a: \"b\"".to_owned()),
        lark("nothing", String::new()),
        lark("open string", "start: \"abc".to_owned()),
        lark("open brackets", format!("start: {}", "(".repeat(128))),
        lark("negations", format!("start: {}\"a\"", "!".repeat(5000))),
        lark("terminal negations", format!("start: T\nT: {}\"a\"", "~".repeat(5000))),
        lark("terminal intersections", format!("start: T\nT: {}/a/", "/(a|b)*a(a|b){20}/ & ".repeat(100))),
        lark("nested schema", format!("start: %json {{\"allOf\": {}null{}}}", "[".repeat(100), "]".repeat(100))),
        lark("special token", "start: <|im_start|> \"a\" <[99999999999]> <[7]>".to_owned()),
        lark("zero bytes", "start: \"\\u0000\u{0}\"".to_owned()),
        lark("GBNF", "root ::= \"a\"".to_owned()),
        lark("options", "%llguidance {\"no_forcing\": 7}\nstart: \"a\"".to_owned()),
    ]
}

#[test]
fn hostile_constraints_are_refused_or_compiled_in_bounded_time() {
    let checkpoint = checkpoint();
    let mut refused = 0;
    for (name, constraint) in hostile() {
        let begun = Instant::now();
        let outcome = checkpoint.grammar(&constraint);
        let took = begun.elapsed();
        eprintln!(
            "{took:9.3?} {name}: {}",
            outcome.as_ref().map_or_else(ToString::to_string, |grammar| format!("{grammar:?}"))
        );
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
        if let Err(error) = outcome {
            let said = error.to_string();
            assert!(matches!(error, Error::BadConstraint { .. }), "{name}: {said}");
            assert!(!said.contains('\n') && said.len() < 1000, "{name}: {said}");
            refused += 1;
        }
    }
    assert!(refused > 20, "only {refused} were refused");
}

#[test]
fn answers_under_hostile_grammars_take_bounded_time() {
    if no_gpu("answers_under_hostile_grammars_take_bounded_time") {
        return;
    }
    let engine = engine(1);
    let mut session = engine.session(hot(1)).unwrap();
    let ids = [20, 21, 22];
    for (name, constraint) in hostile() {
        let Ok(grammar) = engine.checkpoint().grammar(&constraint) else { continue };
        let begun = Instant::now();
        session.clear().unwrap();
        let options = AnswerOptions::tokens(40).grammar(grammar);
        let outcome = session.complete(&ids, &options).and_then(|answer| answer.collect::<peregrine::Result<String>>());
        let took = begun.elapsed();
        eprintln!(
            "{took:9.3?} {name}: {}",
            outcome.as_ref().map_or_else(ToString::to_string, |text| format!("{text:.60?}"))
        );
        assert!(took < Duration::from_secs(60), "{name}: {took:?}");
        if let Err(error) = outcome {
            assert!(matches!(error, Error::BadConstraint { .. }), "{name}: {error}");
        }
    }
}

/// A random schema of at most this depth.
fn any_schema(random: &mut Random, depth: usize) -> Value {
    let below = |random: &mut Random| any_schema(random, depth.saturating_sub(1));
    match random.below(if depth == 0 { 7 } else { 12 }) {
        0 => json!({"type": "null"}),
        1 => json!({"type": "boolean"}),
        2 => {
            let least = random.below(200) as i64 - 100;
            json!({"type": "integer", "minimum": least, "maximum": least + random.below(50) as i64 - 5})
        }
        3 => json!({"type": "string", "maxLength": random.below(9), "minLength": random.below(4)}),
        4 => {
            let values = [json!("a"), json!(7), json!(null), json!({"b": [1, 2]})];
            json!({"enum": values[..1 + random.below(4)]})
        }
        5 => json!({"const": {"é\"": [1.5, "\n"]}}),
        6 => {
            let pattern = ["^[a-f]+$", "^x?y{2,3}$", "(", "^é|ü$"][random.below(4)];
            json!({"type": "string", "pattern": pattern, "maxLength": 20})
        }
        7 | 8 => {
            let names = ["a", "b c", "\"", "ö"];
            let properties: serde_json::Map<String, Value> =
                names[..random.below(5)].iter().map(|name| ((*name).to_owned(), below(random))).collect();
            let required: Vec<&str> = names[..random.below(5)].to_vec();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": random.below(4) == 0})
        }
        9 => json!({"type": "array", "items": below(random), "minItems": random.below(3), "maxItems": random.below(4)}),
        10 => json!({"anyOf": [below(random), below(random)]}),
        _ => json!({"allOf": [below(random), below(random)], "uniqueItems": random.below(5) == 0, "oops": 7}),
    }
}

#[test]
fn random_schemas_give_json_or_an_error() {
    if no_gpu("random_schemas_give_json_or_an_error") {
        return;
    }
    let engine = engine(1);
    let mut session = engine.session(hot(1)).unwrap();
    let begun = Instant::now();
    let (mut whole, mut refused, mut round) = (0, 0, 0);
    while round < 80 && begun.elapsed() < Duration::from_secs(40) {
        round += 1;
        let schema = any_schema(&mut Random::new(round), 3);
        let grammar = match engine.checkpoint().grammar(&Constraint::JsonSchema(schema.clone())) {
            Ok(grammar) => grammar,
            Err(Error::BadConstraint { .. }) => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("{schema}: {error}"),
        };
        session.set_sampling(hot(round)).unwrap();
        let (_, text, finish) = continuation(&mut session, &AnswerOptions::tokens(80).grammar(grammar));
        if finish == Finish::Eos {
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{schema}: {text:?}");
            whole += 1;
        } else {
            assert_eq!(finish, Finish::Length, "{schema}");
        }
    }
    println!("reached: {round} schemas, {refused} refused, {whole} answers complete");
    assert!(whole > 10 && refused > 2, "{whole} {refused}");
}
