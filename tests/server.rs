//! The server as its clients see it: answers, streams, states, limits, and how it ends.

mod common;
mod http;
mod program;

use common::no_gpu;
use http::{Reply, Served};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn story(seed: u64, tokens: usize) -> Value {
    json!({"prompt": "Once upon a time", "max_tokens": tokens, "seed": seed, "temperature": 0.9})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn text_of(answer: &Value) -> String {
    let choice = &answer["choices"][0];
    let text = choice["text"].as_str().or_else(|| choice["message"]["content"].as_str());
    text.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The text, the last finish reason and the usage of a streamed answer `index`.
fn streamed(reply: &Reply, index: u64) -> (String, Value, Value) {
    let (mut text, mut finish, mut usage) = (String::new(), Value::Null, Value::Null);
    let events = reply.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{}", reply.text());
    for event in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(event).unwrap();
        for choice in chunk["choices"].as_array().unwrap().iter().filter(|choice| choice["index"] == index) {
            text += choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str()).unwrap_or_default();
            finish = choice["finish_reason"].clone();
        }
        if chunk["usage"].is_object() {
            usage = chunk["usage"].clone();
        }
    }
    (text, finish, usage)
}

/// Waits until `condition` holds.
fn soon(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn answers_are_the_same_whole_streamed_and_among_others() {
    if no_gpu("answers_are_the_same_whole_streamed_and_among_others") {
        return;
    }
    let server = Served::start(&["--slots", "3"]);
    let alone: Vec<Value> = (0..6).map(|seed| server.answer(TEXT, &story(seed, 16))).collect();
    assert_ne!(text_of(&alone[0]), text_of(&alone[1]), "seeds make no difference");
    std::thread::scope(|scope| {
        for (seed, alone) in alone.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let body = story(seed as u64, 16);
                assert_eq!(text_of(&server.answer(TEXT, &body)), text_of(alone));
                let more = json!({"stream": true, "stream_options": {"include_usage": true}});
                let (text, finish, usage) = streamed(&server.post(TEXT, &with(body, more)), 0);
                assert_eq!((text, finish), (text_of(alone), alone["choices"][0]["finish_reason"].clone()));
                assert_eq!(usage, alone["usage"]);
            });
        }
    });

    let chat = json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 12, "temperature": 0, "n": 2,
                      "logprobs": true, "top_logprobs": 1});
    let whole = server.answer(CHAT, &chat);
    let reply = server.post(CHAT, &with(chat, json!({"stream": true})));
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    for index in 0..2 {
        let (text, _, _) = streamed(&reply, index);
        assert_eq!(text, whole["choices"][index as usize]["message"]["content"].as_str().unwrap());
    }
    let first: Value = serde_json::from_str(&reply.events()[0]).unwrap();
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    // The log-probabilities of all chunks are those of the whole answer.
    let mut tokens = vec![];
    for event in reply.events().iter().filter(|event| *event != "[DONE]") {
        let chunk: Value = serde_json::from_str(event).unwrap();
        if chunk["choices"][0]["index"] == 0 {
            tokens.extend(chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default());
        }
    }
    assert_eq!(json!(tokens), whole["choices"][0]["logprobs"]["content"]);
}

#[test]
fn a_conversation_goes_on_from_its_state_on_any_server() {
    if no_gpu("a_conversation_goes_on_from_its_state_on_any_server") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let states = folder.path().to_str().unwrap();
    let mut first = Served::start(&["--slots", "2", "--states", states]);
    let second = Served::start(&["--slots", "1", "--states", states]);
    let third = Served::start(&["--slots", "1"]);

    let user = |text: &str| json!({"role": "user", "content": text});
    let greedy = json!({"temperature": 0, "max_tokens": 16});
    let opening = with(json!({"messages": [user("Tell me a story about a fox.")], "store": true}), greedy.clone());
    let opened = first.answer(CHAT, &opening);
    let id = opened["state"].as_str().unwrap().to_owned();
    assert_eq!(opened["id"], id.as_str());
    let whole = json!({"messages": [
        user("Tell me a story about a fox."), {"role": "assistant", "content": text_of(&opened)}, user("And then?")]});
    let expected = text_of(&second.answer(CHAT, &with(whole, greedy.clone())));
    let next = with(json!({"state": id, "messages": [user("And then?")]}), greedy.clone());

    // A download goes on elsewhere, as do a fork and a copy of the response.
    let file = first.get(&format!("/v1/states/{id}"));
    assert_eq!(file.status, 200);
    assert_eq!(third.send("PUT", &format!("/v1/states/{id}"), "", &file.body).status, 201);
    assert_eq!(text_of(&third.answer(CHAT, &next)), expected);
    let fork = first.answer(&format!("/v1/states/{id}/fork"), &json!({}))["id"].clone();
    let copy = first.answer("/v1/states", &json!({"response": id}))["id"].clone();
    assert!(fork != copy && fork != id.as_str());

    // The server dies; the other one goes on.
    first.process.kill().unwrap();
    first.process.wait().unwrap();
    for state in [json!(id), fork, copy] {
        assert_eq!(text_of(&second.answer(CHAT, &with(next.clone(), json!({"state": state})))), expected);
    }

    // A state after a prompt, and the continuation of a text.
    let whole = text_of(&second.answer(TEXT, &with(json!({"prompt": "Once upon a time there"}), greedy.clone())));
    let read = second.answer("/v1/states", &json!({"prompt": "Once upon a time"}))["id"].clone();
    let rest = second.answer(TEXT, &with(json!({"state": read, "prompt": " there"}), greedy));
    assert_eq!(text_of(&rest), whole);

    // Deleted states are gone, and what is no state is refused.
    let path = format!("/v1/states/{id}");
    assert_eq!(second.send("DELETE", &path, "", b"").status, 200);
    assert_eq!(second.send("DELETE", &path, "", b"").status, 404);
    assert!(second.post(CHAT, &next).refusal().contains("no state"));
    let mut damaged = file.body.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for bytes in [&b"no state"[..], &damaged, &file.body[..last]] {
        let reply = second.send("PUT", "/v1/states/mine", "", bytes);
        assert_eq!(reply.status, 400, "{}", reply.text());
        reply.refusal();
    }
    let listed = second.get("/v1/states").json();
    assert!(listed["bytes"].as_u64().unwrap() < listed["budget"].as_u64().unwrap());
    assert!(listed["data"].as_array().unwrap().iter().all(|state| state["id"] != id.as_str()));
}

/// A chat template that offers tools and takes calls and their results.
const WITH_TOOLS: &str = r#"{%- if tools %}<|im_start|>system
Call as <tool_call>.{% for tool in tools %} {{ tool.function.name }}: {{ tool.function.parameters | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{%- for call in message.tool_calls or [] %}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}
{{ message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"#;

#[test]
fn tools_are_offered_and_their_calls_parsed() {
    if no_gpu("tools_are_offered_and_their_calls_parsed") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("tools.jinja");
    std::fs::write(&template, WITH_TOOLS).unwrap();
    let server = Served::start(&["--slots", "1", "--chat-template-file", template.to_str().unwrap()]);
    let schema = json!({"type": "object", "properties": {"unit": {"enum": ["C", "F"]}}, "required": ["unit"],
                        "additionalProperties": false});
    let offer = json!({"tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]});
    let user = json!({"role": "user", "content": "Is it cold?"});
    let body = with(json!({"messages": [user], "temperature": 0, "max_tokens": 200}), offer.clone());
    let required = with(body.clone(), json!({"tool_choice": "required"}));
    let answer = server.answer(CHAT, &required);
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null),
        "{answer}"
    );
    let calls = choice["message"]["tool_calls"].clone();
    assert_eq!(calls[0]["function"]["name"], "weather");
    let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments == json!({"unit": "C"}) || arguments == json!({"unit": "F"}), "{arguments}");

    // The same call as a stream.
    let reply = server.post(CHAT, &with(required.clone(), json!({"stream": true})));
    let chunks = reply.events();
    let chunks = chunks.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let deltas: Vec<Value> = chunks.map(|chunk| chunk["choices"][0].clone()).collect();
    let streamed = deltas.iter().find_map(|choice| choice["delta"]["tool_calls"].get(0)).unwrap();
    assert_eq!(streamed["function"], calls[0]["function"]);
    assert_eq!(deltas.last().unwrap()["finish_reason"], "tool_calls");
    assert!(deltas.iter().all(|choice| choice["delta"]["content"].as_str().unwrap_or_default().is_empty()));

    // The call and its result are part of the next prompt, and a tool that is offered changes it.
    let tokens = |body: &Value| server.answer(CHAT, body)["usage"]["prompt_tokens"].as_u64().unwrap();
    let short = |messages: Value| json!({"messages": messages, "max_tokens": 1});
    let assistant = json!({"role": "assistant", "content": null, "tool_calls": calls});
    let result = json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "7"});
    let without = json!({"role": "assistant", "content": null});
    let long = tokens(&short(json!([user, assistant, result])));
    assert!(long > tokens(&short(json!([user, without, result]))));
    let plain = tokens(&short(json!([user])));
    assert!(tokens(&with(short(json!([user])), offer.clone())) > plain);
    assert_eq!(tokens(&with(with(short(json!([user])), offer.clone()), json!({"tool_choice": "none"}))), plain);

    let other = Served::start(&["--slots", "1"]);
    assert!(other.post(CHAT, &with(body, offer)).refusal().contains("does not offer tools"));
}

/// The arguments of a command line with single quotes, up to a comment.
fn arguments(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (vec![], None::<String>, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => all.extend(word.take()),
            '#' if !quoted && word.is_none() => break,
            c => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

#[test]
fn the_curl_lines_of_the_documentation_work() {
    if no_gpu("the_curl_lines_of_the_documentation_work") {
        return;
    }
    let server = Served::start(&["--slots", "1"]);
    let read = |file| std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let text = read("README.md") + &read("docs/server.md");
    let (mut state, mut file, mut run) = (String::new(), Vec::new(), 0);
    for (at, _) in text.match_indices("\ncurl ") {
        let from = &text[at + 1..];
        // A quoted body may go over several lines.
        let quotes = |end: &usize| from[..*end].matches('\'').count() % 2 == 0;
        let end = from.match_indices('\n').map(|(end, _)| end).find(quotes).unwrap();
        let line = from[..end].replace("chatcmpl-…", &state);
        let given = arguments(&line);
        let after = |flag: &str| given.iter().position(|word| word == flag).map(|i| given[i + 1].clone());
        let url = given.iter().find_map(|word| word.strip_prefix("localhost:")).unwrap_or_else(|| panic!("{line}"));
        let path = &url[url.find('/').unwrap()..];
        let (method, body) = match (after("-d"), after("-T")) {
            (Some(body), _) => ("POST", body.into_bytes()),
            (None, Some(_)) => ("PUT", std::mem::take(&mut file)),
            (None, None) => ("GET", vec![]),
        };
        let reply = server.send(method, path, "", &body);
        assert!(reply.status < 300, "{line}: {}", reply.text());
        match after("-o") {
            Some(_) => file = reply.body,
            None => state = reply.json()["state"].as_str().map_or(state, str::to_owned),
        }
        run += 1;
    }
    assert!(run >= 5, "{run} lines");
}

#[test]
fn a_lost_device_changes_no_answer() {
    if no_gpu("a_lost_device_changes_no_answer") {
        return;
    }
    let story = |seed| with(story(seed, 24), json!({"stream": true}));
    let server = Served::start(&["--slots", "3"]);
    let alone: Vec<String> = (0..3).map(|seed| streamed(&server.post(TEXT, &story(seed)), 0).0).collect();
    // Submissions, of some 26: the loss comes while prompts are read, and while answers are streamed.
    for after in ["4", "14"] {
        let server = Served::start_with(&["--slots", "3"], &[("PEREGRINE_LOSE_AFTER", after)]);
        let losses = || {
            let metrics = server.get("/metrics").text();
            let line = metrics.lines().find_map(|line| line.strip_prefix("peregrine_device_losses_total "));
            line.unwrap().to_owned()
        };
        assert_eq!(losses(), "0", "the device was lost before the first request");
        std::thread::scope(|scope| {
            for (seed, alone) in alone.iter().enumerate() {
                let server = &server;
                scope.spawn(move || assert_eq!(streamed(&server.post(TEXT, &story(seed as u64)), 0).0, *alone));
            }
        });
        assert_eq!(losses(), "1");
    }
}

#[test]
fn a_closed_connection_frees_its_slot_and_a_full_queue_refuses() {
    if no_gpu("a_closed_connection_frees_its_slot_and_a_full_queue_refuses") {
        return;
    }
    let server = Served::start(&["--slots", "1", "--queue", "1", "--metrics-names", "vllm"]);
    let endless = with(story(1, 1_000_000), json!({"stream": true, "logit_bias": {"0": -100}}));
    let endless = endless.to_string();
    let mut running = server.open("POST", TEXT, "", endless.as_bytes());
    let mut some = [0; 400];
    running.read_exact(&mut some).unwrap();
    let waiting = server.open("POST", TEXT, "", endless.as_bytes());
    soon("the second request waits", Duration::from_secs(10), || server.metric("peregrine_requests_waiting") == 1.0);
    assert_eq!(server.metric("vllm:num_requests_waiting"), 1.0);
    let reply = server.post(TEXT, &story(2, 4));
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")));
    assert!(reply.refusal().contains("waiting"));
    drop(waiting);
    soon("the queue is empty", Duration::from_secs(10), || server.metric("peregrine_requests_waiting") == 0.0);
    assert_eq!(server.metric("peregrine_requests_running"), 1.0);
    drop(running);
    soon("the slot is free", Duration::from_secs(10), || server.metric("peregrine_requests_running") == 0.0);
    server.answer(TEXT, &story(2, 4));
}

#[test]
fn clients_that_stall_lose_their_connection_and_others_wait_for_it() {
    if no_gpu("clients_that_stall_lose_their_connection_and_others_wait_for_it") {
        return;
    }
    let server = Served::start(&["--slots", "1", "--timeout", "2", "--connections", "3"]);
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    // Half a head, half a body, and requests whose responses nobody reads.
    let mut head = connect();
    head.write_all(b"POST /v1/completions HTTP/1.1\r\nHost:").unwrap();
    let mut body = connect();
    body.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: s\r\nContent-Length: 1000\r\n\r\n{\"prompt\":").unwrap();
    let mut deaf = connect();
    let ask = b"GET /openapi.json HTTP/1.1\r\nHost: s\r\n\r\n".repeat(1000);
    let refused = std::iter::repeat_with(|| deaf.write_all(&ask)).find_map(Result::err).unwrap();
    assert!(matches!(refused.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{refused}");
    // Those three were all connections that the server takes: this one waited.
    assert_eq!(server.get("/health").status, 200);
    let reply = Reply::read(&mut body);
    assert_eq!(reply.status, 400, "{}", reply.text());
    reply.refusal();
    let mut rest = Vec::new();
    // It may be reset.
    let _ = head.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    server.answer(TEXT, &story(2, 4));
}

#[test]
fn bad_requests_get_an_error_in_openais_form() {
    if no_gpu("bad_requests_get_an_error_in_openais_form") {
        return;
    }
    let server = Served::start(&["--slots", "1", "--max-body", "20K", "--max-prompt", "50", "--api-key", "sk-test"]);
    let key = "Authorization: Bearer sk-test\r\n";
    for headers in ["", "Authorization: Bearer sk-tes\r\n", "Authorization: sk-test\r\n", "X-Api-Key: \r\n"] {
        let reply = server.send("POST", TEXT, headers, story(1, 2).to_string().as_bytes());
        assert_eq!(reply.status, 401, "{headers}");
        reply.refusal();
    }
    assert_eq!(server.get("/health").json()["status"], "ok");
    assert_eq!(server.send("GET", "/v1/models", "X-Api-Key: sk-test\r\n", b"").status, 200);
    let long = json!({"prompt": "a ".repeat(200)}).to_string();
    let huge = json!({"prompt": "a".repeat(30_000)}).to_string();
    for (method, path, body, status) in [
        ("POST", CHAT, "", 400),
        ("POST", CHAT, "{", 400),
        ("POST", CHAT, "[]", 400),
        ("POST", CHAT, "{\"messages\": []}", 400),
        ("POST", CHAT, "{\"messages\": [{\"role\": \"user\"}], \"n\": 0}", 400),
        ("POST", CHAT, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"store\": true, \"n\": 2}", 400),
        ("POST", TEXT, "{\"prompt\": [999999]}", 400),
        ("POST", TEXT, "{\"prompt\": \"a\", \"state\": \"../x\"}", 404),
        ("POST", TEXT, "{\"prompt\": \"a\", \"state\": \"gone\"}", 404),
        ("POST", TEXT, &long, 400),
        ("POST", TEXT, &huge, 413),
        ("GET", TEXT, "", 405),
        ("GET", "/v1/engines", "", 404),
        ("GET", "/v1/models/gpt-4", "", 404),
        ("GET", "/v1/states/gone", "", 404),
        ("PUT", "/v1/states/a.b", "x", 400),
        ("POST", "/v1/states", "{\"response\": 7}", 400),
        ("POST", "/v1/states", "{}", 400),
        ("POST", "/v1/states/gone/fork", "", 404),
        ("POST", "/tokenize", "{}", 400),
        ("POST", "/detokenize", "{\"tokens\": [-1]}", 400),
    ] {
        let reply = server.send(method, path, key, body.as_bytes());
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.text());
        reply.refusal();
    }
    let mine = format!("{key}X-Request-Id: mine-7\r\n");
    assert_eq!(server.send("GET", "/v1/models", &mine, b"").header("x-request-id"), Some("mine-7"));
    let ids = server.send("POST", "/tokenize", key, b"{\"content\": \"Once upon\"}").json()["tokens"].clone();
    let back = server.send("POST", "/detokenize", key, json!({ "tokens": ids }).to_string().as_bytes()).json();
    assert_eq!(back["content"], "Once upon");
}

#[test]
fn a_server_that_ends_saves_unfinished_answers() {
    if no_gpu("a_server_that_ends_saves_unfinished_answers") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let states = folder.path().to_str().unwrap();
    let other = Served::start(&["--slots", "1", "--states", states]);
    let mut ending = Served::start(&["--slots", "1", "--states", states, "--drain", "0"]);
    let message = json!({"messages": [{"role": "user", "content": "Tell me a long story about a fox."}], "temperature": 0,
                         "logit_bias": {}, "stream": true, "max_tokens": 100_000});
    let mut connection = ending.open("POST", CHAT, "", message.to_string().as_bytes());
    let mut some = [0; 600];
    connection.read_exact(&mut some).unwrap();
    kill(Pid::from_raw(ending.process.id().cast_signed()), Signal::SIGTERM).unwrap();
    let mut rest = Vec::new();
    connection.read_to_end(&mut rest).unwrap();
    let all = [&some[..], &rest].concat();
    let all = String::from_utf8_lossy(&all);
    let status = ending.process.wait().unwrap();
    assert!(status.success(), "{status}");
    let events: Vec<Value> = all
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str(data).ok())
        .collect();
    let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["code"], "shutting_down", "{all}");
    let state = error["state"].as_str().unwrap();

    let whole = with(message, json!({"stream": false, "max_tokens": 60}));
    let whole = text_of(&other.answer(CHAT, &whole));
    let rest = json!({"state": state, "messages": [], "temperature": 0, "max_tokens": 20});
    let both = said.clone() + &text_of(&other.answer(CHAT, &rest));
    let common = both.len().min(whole.len());
    assert!(common > said.len() && both[..common] == whole[..common], "{both:?} is not the beginning of {whole:?}");
}

#[test]
fn it_ends_with_its_parent_and_refuses_an_open_address_without_a_key() {
    let output = program::run(&["serve", "--host", "0.0.0.0"]);
    program::refused(&output, 2, &["--api-key", "--no-key"]);
    program::refused(&program::run(&["serve", "--parent", "999999999"]), 2, &["no such process"]);
    if no_gpu("it_ends_with_its_parent_and_refuses_an_open_address_without_a_key") {
        return;
    }
    let mut parent = Command::new("sleep").arg("600").spawn().unwrap();
    let mut server = Served::start(&["--slots", "1", "--parent", &parent.id().to_string()]);
    assert_eq!(server.get("/readyz").status, 200);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let started = Instant::now();
    while server.process.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(10), "the server outlives its parent");
        std::thread::sleep(Duration::from_millis(50));
    }
}
