//! OpenAI requests answered by a session: the effect of each setting, and the responses.

mod common;

use common::{gpu, no_gpu, shipped};
use peregrine::openai::{Completion, Endpoint, Request, RequestDefaults, ResponseId};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Finish, Sampling, StateBudget};
use peregrine::text::Specials;
use serde_json::{Value, json};

const PROMPT: &str = "Once upon a time";
const UNSAID: RequestDefaults = RequestDefaults { max_tokens: None, seed: 5 };

fn engine() -> Engine {
    let options = EngineOptions::default().slots(1);
    Engine::load(&gpu(), Checkpoint::open(shipped("tiny-chat")).unwrap(), options, &mut |_| {}).unwrap()
}

fn id(endpoint: Endpoint, number: usize) -> ResponseId {
    ResponseId::new(endpoint, number, 0, "tiny-chat")
}

fn answer(engine: &Engine, endpoint: Endpoint, body: &Value) -> Completion {
    let request = Request::parse(endpoint, body).unwrap_or_else(|refusal| panic!("{refusal}"));
    request.fits(engine.checkpoint()).unwrap();
    request.answer(&mut engine.session(Sampling::GREEDY).unwrap(), UNSAID).unwrap()
}

/// The continuation of a prompt; 24 tokens unless `more` sets a limit.
fn story(engine: &Engine, more: Value) -> Completion {
    let mut body = json!({"prompt": PROMPT});
    if more.get("n_predict").is_none() {
        body["max_tokens"] = json!(24);
    }
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    answer(engine, Endpoint::Completions, &body)
}

fn texts(answered: &Completion) -> Vec<&str> {
    answered.choices.iter().map(|choice| choice.text.as_str()).collect()
}

#[test]
fn several_answers_have_their_own_seeds_and_read_the_prompt_once() {
    if no_gpu("several_answers_have_their_own_seeds_and_read_the_prompt_once") {
        return;
    }
    let engine = engine();
    let sampled = |n: usize, seed: u64| json!({"n": n, "seed": seed, "temperature": 1.1, "repeat_penalty": 1.2});
    let alone: Vec<Completion> = (7..10).map(|seed| story(&engine, sampled(1, seed))).collect();
    let before = engine.counts().fed;
    let together = story(&engine, sampled(3, 7));
    let prompt = alone[0].prompt_tokens;
    assert_eq!(engine.counts().fed - before, prompt, "the prompt was read once");
    assert_eq!(texts(&together), alone.iter().flat_map(texts).collect::<Vec<_>>());
    assert_ne!(together.choices[0].text, together.choices[1].text);
    assert_eq!(together.prompt_tokens, prompt);
    assert_eq!(together.completion_tokens, alone.iter().map(|answered| answered.completion_tokens).sum::<u64>());
    // Several prompts have their own answers, in order.
    let body = json!({"prompt": [PROMPT, "The cat"], "n": 2, "seed": 7, "temperature": 1.1, "repeat_penalty": 1.2, "max_tokens": 24});
    let several = answer(&engine, Endpoint::Completions, &body);
    assert_eq!(texts(&several)[..2], texts(&together)[..2]);
    let body = several.body(Endpoint::Completions, engine.checkpoint(), &id(Endpoint::Completions, 3)).unwrap();
    let indexes: Vec<&Value> = body["choices"].as_array().unwrap().iter().map(|choice| &choice["index"]).collect();
    assert_eq!(indexes, [&json!(0), &json!(1), &json!(2), &json!(3)]);
    assert_eq!(body["usage"]["total_tokens"], several.prompt_tokens + several.completion_tokens);
    // A request without a seed, or with -1, uses the default seed.
    let seed = |seed: Value| story(&engine, json!({"seed": seed, "temperature": 1.1}));
    assert_eq!(seed(json!(-1)), seed(json!(5)));
    assert_eq!(seed(json!(null)), seed(json!(5.0)));
    assert_ne!(seed(json!(-1)), seed(json!(6)));
}

#[test]
fn without_stored_states_the_prompt_is_read_for_each_answer() {
    if no_gpu("without_stored_states_the_prompt_is_read_for_each_answer") {
        return;
    }
    let engine = engine();
    let sampled = json!({"n": 3, "seed": 7, "temperature": 1.1, "repeat_penalty": 1.2});
    let kept = story(&engine, sampled.clone());
    engine.set_state_budget(StateBudget { device: 0, host: 0, disk: 0, ..StateBudget::default() }).unwrap();
    let before = engine.counts().fed;
    assert_eq!(story(&engine, sampled), kept);
    assert_eq!(engine.counts().fed - before, 3 * kept.prompt_tokens);
}

#[test]
fn a_chat_request_equals_a_conversation() {
    if no_gpu("a_chat_request_equals_a_conversation") {
        return;
    }
    let engine = engine();
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "3 plus 4?"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1"}]},
        {"role": "user", "content": "What is 12 plus 2?"},
    ]);
    let body = json!({"messages": messages, "temperature": 0, "n": 2, "max_tokens": 24});
    let answered = answer(&engine, Endpoint::Chat, &body);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let plain = ["What is 3 plus 4?", "", "What is 12 plus 2?"];
    let messages = ["user", "assistant", "user"].iter().zip(plain);
    let messages = messages.map(|(role, content)| peregrine::text::Message::new(role, content)).collect();
    let expected: String =
        session.converse(messages, &AnswerOptions::tokens(24)).unwrap().map(|piece| piece.unwrap()).collect();
    assert_eq!(texts(&answered), [&expected, &expected]);
    let body = answered.body(Endpoint::Chat, engine.checkpoint(), &id(Endpoint::Chat, 3)).unwrap();
    assert_eq!(body["choices"][1]["message"], json!({"role": "assistant", "content": expected}));
    assert_eq!((&body["choices"][0]["logprobs"], &body["object"]), (&Value::Null, &json!("chat.completion")));
}

#[test]
fn message_fields_reach_the_template() {
    let mut checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let messages = json!([
        {"role": "user", "content": "x", "name": "Ann"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": "{\"a\": 1}"}}]},
    ]);
    let request = Request::parse(Endpoint::Chat, &json!({ "messages": messages })).unwrap();
    let read = "{% for m in messages %}{{ m.content }}{{ m.name }}\
                {% for call in m.tool_calls or [] %}{{ call.function.arguments.a + 1 }}{% endfor %};{% endfor %}";
    checkpoint.set_template(peregrine::text::Template::new("read", read).unwrap());
    let prompts = request.prompts(&checkpoint).unwrap();
    assert_eq!(checkpoint.tokenizer().unwrap().decode(&prompts[0]), "xAnn;2;");
}

#[test]
fn settings_of_other_servers_are_supported() {
    if no_gpu("settings_of_other_servers_are_supported") {
        return;
    }
    let engine = engine();
    let greedy = |more: Value| {
        let mut body = json!({"temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        story(&engine, body)
    };
    let plain = greedy(json!({}));
    let text = texts(&plain)[0].to_owned();
    assert_eq!((plain.completion_tokens, plain.choices[0].finish), (24, Finish::Length));
    assert_eq!(greedy(json!({"n_predict": 2.0})).completion_tokens, 2);
    assert_ne!(texts(&greedy(json!({"repeat_penalty": 1.8, "repeat_last_n": -1})))[0], text);
    let question = json!([{"role": "user", "content": "What is 12 plus 2?"}]);
    // No limit: until EOS.
    let body = json!({"messages": question, "temperature": 0, "max_tokens": -1});
    assert_eq!(answer(&engine, Endpoint::Chat, &body).choices[0].finish, Finish::Eos);
}

#[test]
fn log_probabilities_have_the_formats_of_their_endpoints() {
    if no_gpu("log_probabilities_have_the_formats_of_their_endpoints") {
        return;
    }
    let engine = engine();
    let tokenizer = engine.checkpoint().tokenizer().unwrap();
    let ids = tokenizer.encode(PROMPT, Specials::Parse).unwrap();
    let sampling = Sampling::GREEDY.temperature(1.3).seed(7);
    // A session's values token by token.
    let mut session = engine.session(sampling).unwrap();
    let mut expected = vec![];
    let options = AnswerOptions::tokens(12).logprobs(Some(2));
    let mut generation = session.generate(&ids, &options).unwrap();
    while let Some(id) = generation.next_id().unwrap() {
        expected.push((id, generation.logprobs().unwrap().clone()));
    }
    drop(generation);
    drop(session);
    let free = json!({"temperature": 1.3, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 7, "max_tokens": 12});
    let with = |more: Value| {
        let mut body = free.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let answered = story(&engine, with(json!({"logprobs": 2})));
    let body = answered.body(Endpoint::Completions, engine.checkpoint(), &id(Endpoint::Completions, 1)).unwrap();
    let (text, logprobs) = (body["choices"][0]["text"].as_str().unwrap(), &body["choices"][0]["logprobs"]);
    let list = |name: &str| logprobs[name].as_array().unwrap_or_else(|| panic!("{name}: {logprobs}")).clone();
    assert_eq!(list("tokens").len(), 12);
    for (i, (id, token)) in expected.iter().enumerate() {
        assert_eq!(list("tokens")[i], tokenizer.decode(&[*id]));
        assert_eq!(list("token_logprobs")[i], token.chosen);
        let top = list("top_logprobs")[i].as_object().unwrap().clone();
        assert_eq!(top[&tokenizer.decode(&[token.top[0].0])], token.top[0].1);
        assert!(top.contains_key(&tokenizer.decode(&[*id])) && (2..=3).contains(&top.len()), "{top:?}");
        let at = usize::try_from(list("text_offset")[i].as_u64().unwrap()).unwrap();
        let rest: String = text.chars().skip(at).collect();
        assert!(rest.starts_with(&tokenizer.decode(&[*id])), "{i}: {rest:?}");
    }
    // No top tokens, only the chosen one.
    let none = story(&engine, with(json!({"logprobs": 0})));
    let body = none.body(Endpoint::Completions, engine.checkpoint(), &id(Endpoint::Completions, 1)).unwrap();
    assert_eq!(body["choices"][0]["logprobs"]["top_logprobs"][0].as_object().unwrap().len(), 1);
    // Chat completions.
    let messages = json!([{"role": "user", "content": "What is 12 plus 2?"}]);
    let chat = with(json!({"messages": messages, "logprobs": true, "top_logprobs": 3, "temperature": 0}));
    let body = answer(&engine, Endpoint::Chat, &chat)
        .body(Endpoint::Chat, engine.checkpoint(), &id(Endpoint::Chat, 1))
        .unwrap();
    let content = body["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let joined: Vec<u8> = content
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap())
        .collect();
    assert_eq!(String::from_utf8(joined).unwrap(), body["choices"][0]["message"]["content"].as_str().unwrap());
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: the chosen token is the most probable.
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&token["token"], &token["logprob"]));
        assert!(top.windows(2).all(|pair| pair[0]["logprob"].as_f64() >= pair[1]["logprob"].as_f64()), "{token}");
    }
}

#[test]
fn tokens_removed_by_a_stop_string_have_no_log_probabilities() {
    if no_gpu("tokens_removed_by_a_stop_string_have_no_log_probabilities") {
        return;
    }
    let engine = engine();
    let with = |stop: Value| story(&engine, json!({"temperature": 0, "logprobs": 0, "stop": stop}));
    let whole = with(json!(null));
    let cut = with(json!(["xyz", "Ravi"]));
    let text = texts(&whole)[0].split("Ravi").next().unwrap();
    assert_eq!((texts(&cut)[0], cut.choices[0].finish), (text, Finish::Stop));
    let (all, kept) = (whole.choices[0].logprobs.as_ref().unwrap(), cut.choices[0].logprobs.as_ref().unwrap());
    assert!(!kept.is_empty() && kept.len() < all.len());
    assert_eq!(kept[..], all[..kept.len()]);
    assert!(kept.iter().all(|token| token.at < text.len()) && all[kept.len()].at >= text.len(), "{kept:?}");
    // Held back, but shown in the end.
    let held = with(json!([texts(&whole)[0].to_owned() + "!"]));
    assert_eq!(held.choices[0].logprobs, whole.choices[0].logprobs);
}

#[test]
fn token_ids_outside_the_model_are_rejected_by_path() {
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let far = checkpoint.config().vocab;
    for (body, said) in [
        (json!({"prompt": [[1], [2, far]]}), format!("prompt[1][1] is {far}")),
        (json!({"prompt": "x", "logit_bias": {far.to_string(): 1}}), format!("logit_bias[\"{far}\"]")),
    ] {
        let refusal = Request::parse(Endpoint::Completions, &body).unwrap().fits(&checkpoint).unwrap_err();
        assert!(refusal.message.starts_with(&said) && refusal.message.len() < 120, "{refusal}");
    }
}
