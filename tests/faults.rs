//! Injected device faults at random times: timeouts, failed submissions, failed allocations and device
//! loss. Every conversation ends with the tokens that it would have without faults.

mod common;
mod program;
#[path = "common/small_states.rs"]
mod small_states;

use common::{fixture, gpu, no_gpu};
use peregrine::Error;
use peregrine::gpu::{FaultSite, Gpu, InjectedFault};
use peregrine::kernels::case::Random;
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling, Session, Snapshot, StateBudget};
use peregrine::text::Message;
use small_states::{PLAIN, engine};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const SLOTS: usize = 3;

/// Count of injected faults by site and kind.
type Met = Arc<Mutex<BTreeMap<String, usize>>>;

/// Injects one of these faults at about one device use in `rate`, by a seed.
fn inject(gpu: &Gpu, seed: u64, rate: usize, faults: &'static [(FaultSite, InjectedFault)]) -> Met {
    let met = Met::default();
    let (mut random, counts) = (Random::new(seed), met.clone());
    gpu.inject(move |site| {
        let fault = faults.iter().filter(|(at, _)| *at == site).map(|(_, fault)| *fault);
        let fault = fault.collect::<Vec<_>>();
        if fault.is_empty() || random.below(rate) > 0 {
            return None;
        }
        let fault = fault[random.below(fault.len())];
        *counts.lock().unwrap().entry(format!("{site:?}: {fault:?}")).or_default() += 1;
        Some(fault)
    });
    met
}

/// Transient faults.
const PASSING: &[(FaultSite, InjectedFault)] = &[
    (FaultSite::Wait, InjectedFault::Timeout),
    (FaultSite::Wait, InjectedFault::Refused),
    (FaultSite::Submit, InjectedFault::Refused),
    (FaultSite::Submitted, InjectedFault::Refused),
    (FaultSite::Submitted, InjectedFault::OutOfMemory),
    (FaultSite::Allocate, InjectedFault::OutOfMemory),
];

const LOSS: &[(FaultSite, InjectedFault)] = &[
    (FaultSite::Wait, InjectedFault::Lost),
    (FaultSite::Submit, InjectedFault::Lost),
    (FaultSite::Submitted, InjectedFault::Lost),
    (FaultSite::Allocate, InjectedFault::Lost),
];

fn hot(seed: u64) -> Sampling {
    Sampling::GREEDY.temperature(3.0).repeat_penalty(1.2).repeat_last_n(8).seed(seed)
}

/// An event of a conversation.
#[derive(Debug, Clone)]
enum Event {
    Say { text: &'static str, tokens: usize },
    Feed(Vec<u32>),
    Step { tokens: usize },
    Seed(u64),
    SaveAndLoad,
    Fork,
    UndoAndSay { tokens: usize },
    Again { tokens: usize },
}

fn script(random: &mut Random, events: usize) -> Vec<Event> {
    let mut script = vec![Event::Say { text: "Hi.", tokens: 3 }];
    while script.len() < events {
        script.push(match random.below(8) {
            0 => Event::Say {
                text: ["And a fox?", "Go on, and tell me all of it."][random.below(2)],
                tokens: random.below(6),
            },
            1 | 2 => Event::Feed((0..1 + random.below(90)).map(|_| 20 + random.below(200) as u32).collect()),
            3 => Event::Step { tokens: 1 + random.below(9) },
            4 => Event::Seed(1 + random.below(9) as u64),
            5 => [Event::SaveAndLoad, Event::Fork][random.below(2)].clone(),
            6 => Event::UndoAndSay { tokens: 1 + random.below(4) },
            _ => Event::Again { tokens: 1 + random.below(4) },
        });
    }
    script
}

/// The observable outcome of a conversation: tokens, position and messages.
#[derive(Debug, Default, Clone, PartialEq)]
struct Outcome {
    tokens: Vec<u32>,
    /// Bits of the log-probabilities of tokens that have them.
    bits: Vec<u64>,
    positions: Vec<u64>,
    messages: Vec<Message>,
}

/// A conversation that retries after every fault.
struct Talk<'a> {
    engine: &'a Engine,
    session: Session,
    outcome: Outcome,
    /// Count of errors.
    errors: &'a AtomicUsize,
}

impl Talk<'_> {
    /// Handles an error: reopens the device if it is lost.
    fn after(&self, error: &Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let of_the_device = matches!(
            error,
            Error::DeviceLost { .. }
                | Error::Gpu { .. }
                | Error::OutOfMemory { .. }
                | Error::Timeout { .. }
                | Error::DoesNotFit { .. }
        );
        assert!(of_the_device, "{error:?}");
        if matches!(error, Error::DeviceLost { .. }) {
            while self.engine.recover(&mut |_| {}).is_err() {}
        }
    }

    fn insist<T>(&mut self, mut what: impl FnMut(&mut Session) -> peregrine::Result<T>) -> T {
        loop {
            let before = (self.session.position(), self.session.messages().to_vec());
            match what(&mut self.session) {
                Ok(done) => return done,
                Err(error) => {
                    let now = (self.session.position(), self.session.messages().to_vec());
                    assert_eq!(before, now, "{error}");
                    self.after(&error);
                }
            }
        }
    }

    /// An answer of `tokens` tokens that `begin` starts, resumed after each error.
    fn answer(&mut self, tokens: usize, begin: impl Fn(&mut Session, &AnswerOptions) -> peregrine::Result<Got>) {
        let mut left = tokens;
        let mut begun = false;
        loop {
            let (position, messages) = (self.session.position(), self.session.messages().to_vec());
            let options = AnswerOptions::tokens(left);
            let got = if begun { resume(&mut self.session, &options) } else { begin(&mut self.session, &options) };
            match got {
                Ok(got) => {
                    begun = true;
                    left -= got.ids.len();
                    self.outcome.tokens.extend(&got.ids);
                    match got.error {
                        None => return,
                        Some(error) => self.after(&error),
                    }
                }
                Err(Error::NothingToResume) => return,
                Err(error) => {
                    assert_eq!(
                        (position, messages),
                        (self.session.position(), self.session.messages().to_vec()),
                        "{error}"
                    );
                    self.after(&error);
                }
            }
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Say { text, tokens } => self.answer(*tokens, |session, options| drain(session.send(text, options)?)),
            Event::Again { tokens } => {
                if self.session.messages().last().is_some_and(|last| last.role == "assistant") {
                    self.answer(*tokens, |session, options| drain(session.retry(options)?));
                }
            }
            Event::UndoAndSay { tokens } => {
                if self.session.messages().iter().any(|message| message.role == "user") {
                    let gone = self.insist(Session::undo);
                    self.answer(*tokens, |session, options| drain(session.send(&gone.content, options)?));
                }
            }
            Event::Feed(ids) => {
                let mut fed = 0;
                while fed < ids.len() {
                    let before = self.session.position();
                    if let Err(error) = self.session.feed(&ids[fed..]) {
                        self.after(&error);
                    }
                    fed += usize::try_from(self.session.position() - before).unwrap();
                }
            }
            Event::Step { tokens } => {
                let mut left = *tokens;
                while left > 0 {
                    let options = AnswerOptions::tokens(left).logprobs(Some(0));
                    let error = match self.session.generate(&[], &options) {
                        Err(error) => Some(error),
                        Ok(mut generation) => loop {
                            match generation.next_id() {
                                Ok(Some(id)) => {
                                    left -= 1;
                                    self.outcome.tokens.push(id);
                                    self.outcome.bits.push(generation.logprobs().unwrap().chosen.to_bits());
                                }
                                Ok(None) => {
                                    left = 0;
                                    break None;
                                }
                                Err(error) => break Some(error),
                            }
                        },
                    };
                    if let Some(error) = error {
                        self.after(&error);
                    }
                }
            }
            Event::Seed(seed) => self.insist(|session| session.set_sampling(hot(*seed))),
            Event::SaveAndLoad => {
                let snapshot = self.insist(|session| session.snapshot());
                let snapshot = Snapshot::from_bytes("a snapshot", &snapshot.to_bytes().unwrap()).unwrap();
                self.insist(|session| session.restore(&snapshot).map(|_| ()));
            }
            Event::Fork => loop {
                match self.session.fork() {
                    Ok(other) => self.session = other,
                    Err(Error::NoFreeSlot { .. }) => {}
                    Err(error) => {
                        self.after(&error);
                        continue;
                    }
                }
                break;
            },
        }
        self.outcome.positions.push(self.session.position());
        self.outcome.messages = self.session.messages().to_vec();
    }
}

/// Tokens of an answer, and the error that ended it, if any.
struct Got {
    ids: Vec<u32>,
    error: Option<Error>,
}

fn drain(mut answer: peregrine::runtime::Answer<'_>) -> peregrine::Result<Got> {
    let error = answer.find_map(Result::err);
    Ok(Got { ids: answer.generation().ids().to_vec(), error })
}

fn resume(session: &mut Session, options: &AnswerOptions) -> peregrine::Result<Got> {
    drain(session.resume(options)?)
}

fn run(engine: &Engine, script: &[Event], errors: &AtomicUsize) -> Outcome {
    let session = loop {
        match engine.session(hot(1)) {
            Ok(session) => break session,
            Err(Error::DeviceLost { .. }) => while engine.recover(&mut |_| {}).is_err() {},
            Err(Error::Gpu { .. } | Error::OutOfMemory { .. } | Error::Timeout { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    let mut talk = Talk { engine, session, outcome: Outcome::default(), errors };
    script.iter().for_each(|event| talk.happen(event));
    talk.outcome
}

/// Runs scripts side by side on an engine with faults, and compares each with itself alone without faults.
fn side_by_side(rounds: u64, rate: usize, faults: &'static [(FaultSite, InjectedFault)]) -> (Met, usize) {
    // One device for all rounds, which keeps its pipelines until it is lost.
    let mut device = gpu();
    let calm = engine(&gpu(), 1, PLAIN);
    let met = Met::default();
    let errors = AtomicUsize::new(0);
    for round in 0..rounds {
        let mut random = Random::new(round);
        let scripts: Vec<_> = (0..SLOTS).map(|_| script(&mut random, 7)).collect();
        let expected: Vec<_> = scripts.iter().map(|script| run(&calm, script, &AtomicUsize::new(0))).collect();
        let stormy = engine(&device, SLOTS, PLAIN);
        let round_met = inject(&stormy.gpu(), round, rate, faults);
        let got: Vec<_> = std::thread::scope(|scope| {
            let (stormy, errors) = (&stormy, &errors);
            let running: Vec<_> =
                scripts.iter().map(|script| scope.spawn(move || run(stormy, script, errors))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for ((script, got), expected) in scripts.iter().zip(got).zip(expected) {
            assert_eq!(got, expected, "round {round}: {script:?}");
        }
        for (fault, count) in &*round_met.lock().unwrap() {
            *met.lock().unwrap().entry(fault.clone()).or_default() += count;
        }
        let sessions: Vec<_> = (0..SLOTS).map_while(|_| stormy.session(hot(0)).ok()).collect();
        let all = sessions.len();
        drop(sessions);
        stormy.gpu().inject(|_| None);
        let _ = stormy.recover(&mut |_| {});
        assert!(all <= SLOTS && stormy.session(hot(0)).is_ok(), "round {round}: a slot is missing");
        device = stormy.gpu();
    }
    let errors = errors.load(Ordering::Relaxed);
    println!(
        "reached: {rounds} rounds of {SLOTS} conversations, {errors} errors told, faults {:?}, 0 tokens lost",
        met.lock().unwrap()
    );
    (met, errors)
}

fn rounds(few: u64) -> u64 {
    std::env::var("PEREGRINE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(few)
}

#[test]
fn a_transient_fault_loses_no_token() {
    if no_gpu("a_transient_fault_loses_no_token") {
        return;
    }
    let (met, errors) = side_by_side(rounds(24), 40, PASSING);
    assert!(met.lock().unwrap().len() >= PASSING.len() && errors > 24, "{met:?} {errors}");
}

#[test]
fn a_device_loss_loses_no_token() {
    if no_gpu("a_device_loss_loses_no_token") {
        return;
    }
    let (met, errors) = side_by_side(rounds(8), 200, LOSS);
    assert!(met.lock().unwrap().values().sum::<usize>() >= 8 && errors > 8, "{met:?} {errors}");
}

#[test]
fn a_failed_allocation_at_any_point_of_a_load_reports_the_plan() {
    if no_gpu("a_failed_allocation_at_any_point_of_a_load_reports_the_plan") {
        return;
    }
    let gpu = gpu();
    let other = engine(&gpu, 1, PLAIN);
    let mut session = other.session(hot(1)).unwrap();
    session.feed(&[20, 21, 22]).unwrap();
    let held = gpu.allocated_bytes();
    let mut allocations = 0;
    let load = || {
        let checkpoint = Checkpoint::open(fixture("falcon-tiny")).unwrap();
        Engine::load(&gpu, checkpoint, EngineOptions::default(), &mut |_| {})
    };
    for fail_at in 0.. {
        let mut left = fail_at;
        gpu.inject(move |site| {
            let now = site == FaultSite::Allocate && left == 0;
            left -= i32::from(site == FaultSite::Allocate);
            now.then_some(InjectedFault::OutOfMemory)
        });
        let loaded = load();
        gpu.inject(|_| None);
        match loaded {
            Ok(_) => break,
            Err(Error::DoesNotFit { plan, .. }) => assert!(plan.contains("weights"), "{plan}"),
            Err(Error::OutOfMemory { .. }) => {}
            Err(error) => panic!("allocation {fail_at}: {error:?}"),
        }
        allocations += 1;
        assert_eq!(gpu.allocated_bytes(), held, "allocation {fail_at} left memory behind");
    }
    assert!(allocations > 50, "{allocations}");
    other.set_state_budget(StateBudget::default()).unwrap();
    session.generate(&[], &AnswerOptions::tokens(2)).unwrap().next_id().unwrap().unwrap();
    println!("reached: {allocations} allocations of a load refused in turn, 0 bytes left behind");
}

/// Runs the program with a device loss after `after` submissions: stdout without time stamps, and stderr.
fn run_with_a_loss(arguments: &[&str], input: &str, after: Option<u64>) -> (String, String) {
    let mut command = program::peregrine();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(after.map(|after| ("PEREGRINE_LOSE_AFTER", after.to_string())));
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = program::stdout(&output);
    let timeless = text.split("\"created\":").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
    (timeless.collect(), program::stderr(&output))
}

/// A command that is given `input` writes the same with a device loss after each of these numbers of submissions.
fn writes_the_same(arguments: &[&str], input: &str, moments: &[u64]) {
    let (expected, said) = run_with_a_loss(arguments, input, None);
    assert!(!said.contains("GPU was lost"), "{said}");
    let mut losses = 0;
    for after in moments {
        let (got, said) = run_with_a_loss(arguments, input, Some(*after));
        assert_eq!(got, expected, "{arguments:?} after {after} submissions");
        losses += said.matches("the GPU was lost (").count();
    }
    assert!(losses + 1 >= moments.len(), "{arguments:?}: only {losses} losses");
    println!("reached: {} with {losses} losses, the text of one without", arguments[0]);
}

#[test]
fn a_chat_and_a_batch_recover_from_a_lost_device() {
    if no_gpu("a_chat_and_a_batch_recover_from_a_lost_device") {
        return;
    }
    let chat = "What is 3 plus 4?\nTell me a story about a fox.\n/undo\nTell me a story about a cat.\n";
    let batch: String = (0..6)
        .map(|i| {
            let body = serde_json::json!({"prompt": format!("Once upon a time {i}"), "max_tokens": 20, "temperature": 1.0});
            let line = serde_json::json!({"custom_id": i.to_string(), "url": "/v1/completions", "method": "POST", "body": body});
            format!("{line}\n")
        })
        .collect();
    writes_the_same(&["chat", "--temp", "0", "-n", "40"], chat, &[30, 45, 60, 75]);
    writes_the_same(&["batch", "--slots", "1", "-i", "-", "-o", "-"], &batch, &[70, 110, 150, 200]);
}

#[test]
fn a_run_recovers_from_a_lost_device() {
    if no_gpu("a_run_recovers_from_a_lost_device") {
        return;
    }
    let arguments = ["run", "-p", "-", "-n", "40", "--temp", "0.9", "--seed", "3", "--chunk", "16"];
    let text = "Once upon a time there was a fox who lived in a wood. ".repeat(6);
    writes_the_same(&arguments, &text, &MOMENTS);
    writes_the_same(&["run", "-cnv", "-p", "-", "-n", "40", "--temp", "0"], "Tell me a story about a fox.", &MOMENTS);
}

#[test]
fn an_evaluation_recovers_from_a_lost_device() {
    if no_gpu("an_evaluation_recovers_from_a_lost_device") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [text, questions] = ["text", "questions"].map(|name| dir.path().join(name));
    std::fs::write(&text, "Once upon a time there was a fox who lived in a wood. ".repeat(12)).unwrap();
    let question = |i: usize| format!("{{\"prompt\": \"{i} plus 4 is\", \"answer\": \"no\"}}\n");
    std::fs::write(&questions, (0..6).map(question).collect::<String>()).unwrap();
    let [text, questions] = [&text, &questions].map(|path| path.to_str().unwrap());
    let of_text = ["eval", "--json", "-w", "f16", "--ctx", "24", "-f", text];
    writes_the_same(&of_text, "", &[24, 34]);
    let of_questions = ["eval", "--json", "--slots", "2", "--questions", questions];
    writes_the_same(&of_questions, "", &[40, 90]);
}

/// Submissions before a loss: while a prompt is read, and while an answer is written.
const MOMENTS: [u64; 4] = [22, 28, 36, 44];
