//! Random operations on conversations side by side: each gives the same as an undisturbed conversation. `PEREGRINE_LONG=1` doubles
//! the number of rounds.

mod common;
#[path = "common/small_states.rs"]
mod small_states;

use common::{gpu, long, no_gpu};
use peregrine::Error;
use peregrine::gpu::Gpu;
use peregrine::kernels::case::Random;
use peregrine::runtime::{
    AnswerOptions, Engine, Finish, Mark, PrefixBudget, Reuse, Sampling, Session, Snapshot, StateBudget,
};
use peregrine::text::Message;
use small_states::{PLAIN, engine, room, state_bytes};
use std::collections::HashMap;

const SLOTS: usize = 3;

/// A high temperature, so that about any token may come.
fn hot(seed: u64) -> Sampling {
    Sampling::GREEDY.temperature(3.0).repeat_penalty(1.2).repeat_last_n(8).seed(seed)
}

/// An event of a conversation that still counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Event {
    Say { text: &'static str, tokens: usize, seed: u64 },
    Resume { tokens: usize, seed: u64 },
    Feed(Vec<u32>),
    Step { tokens: usize, seed: u64 },
}

/// Tokens with the bits of their probabilities.
type Chosen = Vec<(u32, u64)>;

/// An outcome: tokens with the bits of their probabilities, the finish reason, and the session's messages and position.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    tokens: Chosen,
    finish: Option<Finish>,
    position: u64,
    messages: Vec<Message>,
}

fn ended(session: &Session, tokens: Chosen, finish: Option<Finish>) -> Outcome {
    Outcome { tokens, finish, position: session.position(), messages: session.messages().to_vec() }
}

fn options(tokens: usize) -> AnswerOptions {
    AnswerOptions::tokens(tokens).logprobs(Some(0))
}

/// Tokens of an answer with the bits of their probabilities.
fn drain(mut answer: peregrine::runtime::Answer<'_>) -> (Chosen, Option<Finish>) {
    let mut tokens = vec![];
    loop {
        let more = answer.next().transpose().unwrap().is_some();
        let generation = answer.generation();
        // Text may be held back: the bits of the last token represent all since.
        if let (Some(id), Some(logprobs)) = (generation.ids().last(), generation.logprobs()) {
            tokens.push((*id, logprobs.chosen.to_bits()));
        }
        if !more {
            tokens.extend(generation.ids().iter().map(|id| (*id, 0)));
            return (tokens, answer.finish());
        }
    }
}

fn step(session: &mut Session, tokens: usize) -> peregrine::Result<(Chosen, Option<Finish>)> {
    let mut generation = session.generate(&[], &options(tokens))?;
    let mut got = vec![];
    while let Some(id) = generation.next_id()? {
        got.push((id, generation.logprobs().unwrap().chosen.to_bits()));
    }
    Ok((got, generation.finish()))
}

/// Applies an event to a session.
fn happen(session: &mut Session, event: &Event) -> Outcome {
    let (tokens, finish) = match event {
        Event::Say { text, tokens, seed } => {
            session.set_sampling(hot(*seed)).unwrap();
            drain(session.send(text, &options(*tokens)).unwrap())
        }
        Event::Resume { tokens, seed } => {
            session.set_sampling(hot(*seed)).unwrap();
            match session.resume(&options(*tokens)) {
                Ok(answer) => drain(answer),
                Err(Error::NothingToResume) => (vec![], None),
                Err(error) => panic!("{error}"),
            }
        }
        Event::Feed(ids) => {
            session.feed(ids).unwrap();
            (vec![], None)
        }
        Event::Step { tokens, seed } => {
            session.set_sampling(hot(*seed)).unwrap();
            step(session, *tokens).unwrap()
        }
    };
    ended(session, tokens, finish)
}

/// The outcomes of undisturbed conversations, on an engine without caches.
struct Truth {
    engine: Engine,
    known: HashMap<Vec<Event>, Outcome>,
}

impl Truth {
    fn new(gpu: &Gpu) -> Self {
        let engine = engine(gpu, 1, PLAIN);
        engine.set_state_budget(StateBudget::NONE).unwrap();
        Truth { engine, known: HashMap::new() }
    }

    /// The outcome of the last of these events.
    fn of(&mut self, events: &[Event]) -> &Outcome {
        if !self.known.contains_key(events) {
            let mut session = self.engine.session(hot(0)).unwrap();
            self.known.insert(vec![], ended(&session, vec![], None));
            for (i, event) in events.iter().enumerate() {
                let outcome = happen(&mut session, event);
                self.known.insert(events[..=i].to_vec(), outcome);
            }
        }
        &self.known[events]
    }
}

/// A conversation and its events.
struct Talk {
    session: Session,
    events: Vec<Event>,
    /// Events before the snapshot that it continues from, which cannot be undone.
    behind: usize,
}

/// A mark or snapshot.
enum Saved {
    Mark(Box<Mark>),
    Snapshot(Box<Snapshot>),
}

impl Talk {
    fn new(engine: &Engine) -> Self {
        Talk { session: engine.session(hot(0)).unwrap(), events: vec![], behind: 0 }
    }

    fn fork(&self) -> peregrine::Result<Self> {
        Ok(Talk { session: self.session.fork()?, events: self.events.clone(), behind: self.behind })
    }

    /// The last user message that can be undone.
    fn last_said(&self) -> Option<usize> {
        let last = self.events.iter().rposition(is_said)?;
        (last >= self.behind).then_some(last)
    }

    fn happen(&mut self, event: Event, truth: &mut Truth, case: &str) {
        let outcome = happen(&mut self.session, &event);
        self.events.push(event);
        assert!(!self.session.was_read_again(), "{case}: {:?}", self.events);
        assert_eq!(&outcome, truth.of(&self.events), "{case}: {:?}", self.events);
    }

    /// Checks that its position and messages follow from its events.
    fn check(&self, truth: &mut Truth, case: &str) {
        let expected = truth.of(&self.events);
        let here = (self.session.position(), self.session.messages());
        assert_eq!(here, (expected.position, expected.messages.as_slice()), "{case}: {:?}", self.events);
    }
}

fn is_said(event: &Event) -> bool {
    matches!(event, Event::Say { .. })
}

/// One interleaving; gives the count of each operation.
fn interleave(engine: &Engine, truth: &mut Truth, random: &mut Random, case: &str) -> HashMap<&'static str, usize> {
    let mut talks = vec![Talk::new(engine)];
    let mut saved: Vec<(Saved, Vec<Event>, usize)> = vec![];
    let mut done = HashMap::new();
    for _ in 0..7 {
        let at = random.below(talks.len());
        let seed = 1 + random.below(2) as u64;
        let said = talks[at].events.iter().filter(|event| is_said(event)).count();
        let what = match random.below(12) {
            0..=2 if said < 3 => {
                let text = ["Hi.", "And a fox?"][random.below(2)];
                talks[at].happen(Event::Say { text, tokens: 2 * random.below(2), seed }, truth, case);
                "step"
            }
            3 if said > 0 && is_said(talks[at].events.last().unwrap()) => {
                talks[at].happen(Event::Resume { tokens: 2, seed }, truth, case);
                "resume"
            }
            4 if talks[at].last_said().is_some() => {
                let talk = &mut talks[at];
                let last = talk.last_said().unwrap();
                let Event::Say { text, .. } = talk.events[last] else { unreachable!() };
                talk.events.truncate(last);
                talk.session.set_sampling(hot(seed)).unwrap();
                let (tokens, finish) = drain(talk.session.retry(&options(2)).unwrap());
                talk.events.push(Event::Say { text, tokens: 2, seed });
                let outcome = ended(&talk.session, tokens, finish);
                assert!(!talk.session.was_read_again());
                assert_eq!(&outcome, truth.of(&talk.events), "{case}: again {:?}", talk.events);
                "retry"
            }
            5 => {
                let talk = &mut talks[at];
                match talk.last_said() {
                    None if talk.behind > 0 => continue,
                    None => assert!(matches!(talk.session.undo(), Err(Error::NothingToUndo))),
                    Some(last) => {
                        let gone = talk.session.undo().unwrap();
                        let Event::Say { text, .. } = talk.events[last] else { unreachable!() };
                        assert_eq!(gone, Message::new("user", text));
                        talk.events.truncate(last);
                    }
                }
                "undo"
            }
            6 => {
                if talks.len() == SLOTS {
                    assert!(matches!(talks[at].session.fork(), Err(Error::NoFreeSlot { slots: SLOTS })));
                    talks.remove(at);
                } else {
                    talks.push(talks[at].fork().unwrap());
                }
                "fork"
            }
            7 => {
                let talk = &talks[at];
                let mark = Saved::Mark(Box::new(talk.session.mark().unwrap()));
                saved.push((mark, talk.events.clone(), talk.behind));
                "mark"
            }
            8 => {
                let talk = &talks[at];
                let bytes = talk.session.snapshot().unwrap().to_bytes().unwrap();
                let snapshot = Snapshot::from_bytes("a snapshot", &bytes).unwrap();
                saved.push((Saved::Snapshot(Box::new(snapshot)), talk.events.clone(), talk.events.len()));
                "save"
            }
            9 | 10 if !saved.is_empty() => {
                let (there, events, behind) = &saved[random.below(saved.len())];
                let talk = &mut talks[at];
                (talk.events, talk.behind) = (events.clone(), *behind);
                match there {
                    Saved::Mark(mark) => {
                        talk.session.back_to(mark).unwrap();
                        "back"
                    }
                    Saved::Snapshot(snapshot) => {
                        assert_eq!(talk.session.restore(snapshot).unwrap(), []);
                        "load"
                    }
                }
            }
            11 if talks.len() < SLOTS => {
                talks.push(Talk::new(engine));
                "new"
            }
            _ => continue,
        };
        *done.entry(what).or_default() += 1;
        talks.iter().for_each(|talk| talk.check(truth, case));
        if talks.is_empty() {
            talks.push(Talk::new(engine));
        }
    }
    // The bits that follow show the state of each.
    let at = random.below(talks.len());
    talks[at].happen(Event::Feed(vec![5]), truth, case);
    talks[at].happen(Event::Step { tokens: 1, seed: 1 }, truth, case);
    done
}

#[test]
fn interleavings_equal_undisturbed_conversations() {
    if no_gpu("interleavings_equal_undisturbed_conversations") {
        return;
    }
    let gpu = gpu();
    let mut truth = Truth::new(&gpu);
    let engine = engine(&gpu, SLOTS, PLAIN);
    // Small enough that every storage level is used, large enough that nothing is dropped.
    engine.set_state_budget(room(&engine, [1, 2, 100])).unwrap();
    let mut done: HashMap<&str, usize> = HashMap::new();
    let rounds = if long() { 1000 } else { 500 };
    for case in 0..rounds as u64 {
        let counts = interleave(&engine, &mut truth, &mut Random::new(case), &format!("case {case}"));
        counts.into_iter().for_each(|(what, count)| *done.entry(what).or_default() += count);
    }
    for what in ["step", "resume", "retry", "undo", "fork", "mark", "back", "save", "load", "new"] {
        assert!(done.get(what).is_some_and(|count| *count > rounds / 10), "{what} is missing: {done:?}");
    }
    let stats = engine.state_stats();
    let enough = stats.spilled > rounds as u64 / 10 && stats.returned > rounds as u64 / 20;
    assert!(enough && stats.dropped == 0, "{stats:?}");
}

/// One interleaving of token sequences, with dropped states and shared prefixes.
fn interleave_ids(engine: &Engine, truth: &mut Truth, random: &mut Random, case: &str) -> usize {
    let mut talks = vec![Talk::new(engine)];
    let mut saved: Vec<(Mark, Vec<Event>)> = vec![];
    let mut gone = 0;
    for _ in 0..16 {
        let at = random.below(talks.len());
        match random.below(8) {
            0..=2 if talks[at].events.len() < 4 => {
                // They share prefixes of many lengths.
                let length = [1, 9, 33, 40, 70][random.below(5)];
                let ids = (0..length).map(|i| 20 + i as u32 % 7).chain([50 + random.below(2) as u32]);
                talks[at].happen(Event::Feed(ids.collect()), truth, case);
            }
            3 if !talks[at].events.is_empty() && talks[at].events.len() < 4 => {
                talks[at].happen(Event::Step { tokens: 1 + random.below(3), seed: 1 }, truth, case);
            }
            4 if talks.len() < SLOTS => {
                talks.push(talks[at].fork().unwrap());
            }
            5 => saved.push((talks[at].session.mark().unwrap(), talks[at].events.clone())),
            6 if !saved.is_empty() => {
                let (mark, events) = &saved[random.below(saved.len())];
                match talks[at].session.back_to(mark) {
                    Ok(()) => talks[at].events = events.clone(),
                    Err(Error::StateNotKept { .. }) => gone += 1,
                    Err(error) => panic!("{case}: {error}"),
                }
            }
            7 => {
                talks.remove(at);
                talks.push(Talk::new(engine));
            }
            _ => continue,
        }
        talks.iter().for_each(|talk| talk.check(truth, case));
    }
    // The bits that follow show the state of each.
    let at = random.below(talks.len());
    talks[at].happen(Event::Feed(vec![5]), truth, case);
    talks[at].happen(Event::Step { tokens: 1, seed: 1 }, truth, case);
    gone
}

#[test]
fn dropped_states_are_errors_and_shared_prefixes_have_the_same_bits() {
    if no_gpu("dropped_states_are_errors_and_shared_prefixes_have_the_same_bits") {
        return;
    }
    let gpu = gpu();
    let mut truth = Truth::new(&gpu);
    let engine = engine(&gpu, SLOTS, PLAIN);
    engine.set_state_budget(room(&engine, [1, 1, 2])).unwrap();
    engine.set_prefix_cache(PrefixBudget { bytes: 6 * state_bytes(&engine), reuse: Reuse::Read });
    let gone: usize =
        (0..120).map(|case| interleave_ids(&engine, &mut truth, &mut Random::new(case), &format!("case {case}"))).sum();
    let (states, prefixes) = (engine.state_stats(), engine.prefix_stats());
    assert!(gone > 3 && states.dropped > 100 && states.returned > 50, "{gone} {states:?}");
    assert!(states.device.states <= 1 && states.host.states <= 1 && states.disk.states <= 2, "{states:?}");
    assert!(prefixes.hits > 50 && prefixes.misses > 50 && prefixes.evicted > 10, "{prefixes:?}");
    assert!(prefixes.bytes <= 6 * state_bytes(&engine), "{prefixes:?}");
}
