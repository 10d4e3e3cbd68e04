//! Cancellation ends the running call at any point, and no other call.

mod common;

use common::{gpu, no_gpu, shipped};
use peregrine::Error;
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Finish, Sampling, Session};
use peregrine::text::Message;
use std::time::{Duration, Instant};

const QUESTION: &str = "What is 3 plus 4?";

fn engine() -> Engine {
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let options = EngineOptions::default().chunk(4);
    Engine::load(&gpu(), checkpoint, options, &mut |_| {}).unwrap()
}

/// The text of an answer and how it ended.
fn ask(session: &mut Session, text: &str) -> (String, Option<Finish>) {
    let mut answer = session.send(text, &AnswerOptions::tokens(30)).unwrap();
    let text = answer.by_ref().map(Result::unwrap).collect();
    (text, answer.finish())
}

/// Runs `work` while another thread cancels it after some chunks have been read.
fn cancelled_in_the_prompt<T>(session: &mut Session, work: impl FnOnce(&mut Session) -> T) -> T {
    let (engine, cancel) = (session.engine().clone(), session.cancel_handle());
    let before = engine.counts().chunks;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while engine.counts().chunks < before + 2 {}
            cancel.cancel();
        });
        work(session)
    })
}

#[test]
fn a_cancelled_prompt_leaves_the_conversation_unchanged() {
    if no_gpu("a_cancelled_prompt_leaves_the_conversation_unchanged") {
        return;
    }
    let engine = engine();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let long = "On and on. ".repeat(100);
    let none = (String::new(), Some(Finish::Cancelled));
    assert_eq!(cancelled_in_the_prompt(&mut session, |session| ask(session, &long)), none);
    assert_eq!((session.messages().len(), session.position()), (0, 0));
    let whole = ask(&mut session, QUESTION);
    assert_eq!(whole, ("3 plus 4 is 7.".to_owned(), Some(Finish::Eos)));
    let (messages, position) = (session.messages().to_vec(), session.position());
    // The same for the other ways to ask.
    let converse = |session: &mut Session| {
        let messages = vec![Message::new("user", long.as_str())];
        let mut answer = session.converse(messages, &AnswerOptions::default()).unwrap();
        assert!(answer.next().is_none());
        answer.finish()
    };
    assert_eq!(cancelled_in_the_prompt(&mut session, converse), Some(Finish::Cancelled));
    assert_eq!((session.messages(), session.position()), (&messages[..], position));
    // Plain text: the chunks that were read stay read, and the rest can follow.
    session.clear().unwrap();
    let ids = engine.checkpoint().tokenizer().unwrap().encode(&long, peregrine::text::Specials::Literal).unwrap();
    let complete = |session: &mut Session| session.complete(&ids, &AnswerOptions::tokens(3)).unwrap().finish();
    assert_eq!(cancelled_in_the_prompt(&mut session, complete), Some(Finish::Cancelled));
    let fed = session.position() as usize;
    assert!(fed > 0 && fed < ids.len(), "{fed} of {}", ids.len());
    let rest: String = session.complete(&ids[fed..], &AnswerOptions::tokens(3)).unwrap().map(Result::unwrap).collect();
    session.clear().unwrap();
    let straight: String = session.complete(&ids, &AnswerOptions::tokens(3)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rest, straight);
}

#[test]
fn a_cancel_without_a_running_call_does_nothing() {
    if no_gpu("a_cancel_without_a_running_call_does_nothing") {
        return;
    }
    let mut session = engine().session(Sampling::GREEDY).unwrap();
    let cancel = session.cancel_handle();
    cancel.cancel();
    let whole = ask(&mut session, QUESTION);
    assert_eq!(whole.1, Some(Finish::Eos));
    // After the end of an answer, also before it is dropped.
    let mut answer = session.send(QUESTION, &AnswerOptions::tokens(2)).unwrap();
    answer.by_ref().for_each(|piece| drop(piece.unwrap()));
    cancel.cancel();
    assert_eq!(answer.finish(), Some(Finish::Length));
    assert!(answer.next().is_none());
    drop(answer);
    cancel.cancel();
    assert_ne!(session.resume(&AnswerOptions::tokens(1)).unwrap().last().unwrap().unwrap(), "");
    cancel.cancel();
    session.feed(&[5, 6]).unwrap();
    session.clear().unwrap();
    cancel.cancel();
    assert_eq!(ask(&mut session, QUESTION), whole);
    // The same handle still cancels a running call.
    let mut answer = session.retry(&AnswerOptions::default()).unwrap();
    cancel.cancel();
    assert!(answer.next().is_none());
    assert_eq!(answer.finish(), Some(Finish::Cancelled));
}

#[test]
fn a_cancel_at_any_time_ends_at_most_one_call() {
    if no_gpu("a_cancel_at_any_time_ends_at_most_one_call") {
        return;
    }
    let mut session = engine().session(Sampling::GREEDY).unwrap();
    let started = Instant::now();
    let whole = ask(&mut session, QUESTION);
    let longest = started.elapsed().mul_f64(1.2);
    let (rounds, mut cancelled) = (30, 0);
    for round in 0..rounds {
        session.clear().unwrap();
        let cancel = session.cancel_handle();
        let (text, finish) = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(longest * round / rounds);
                cancel.cancel();
            });
            ask(&mut session, QUESTION)
        });
        match finish {
            Some(Finish::Cancelled) => {
                assert!(whole.0.starts_with(&text), "{text:?}");
                let answer = session.messages().get(1).map(|answer| answer.content.as_str());
                assert_eq!(answer.unwrap_or_default(), text);
                assert_eq!(session.position() == 0, session.messages().is_empty());
                cancelled += 1;
            }
            _ => assert_eq!((text, finish), whole),
        }
        session.clear().unwrap();
        assert_eq!(ask(&mut session, QUESTION), whole, "the cancel of round {round} struck here");
    }
    assert!(cancelled > 0 && cancelled < rounds, "{cancelled} of {rounds} were cancelled");
}

#[test]
fn cancels_from_many_threads_leave_the_next_message_whole() {
    if no_gpu("cancels_from_many_threads_leave_the_next_message_whole") {
        return;
    }
    let mut session = engine().session(Sampling::GREEDY).unwrap();
    let whole = ask(&mut session, QUESTION);
    for round in 0..5 {
        session.clear().unwrap();
        let cancel = session.cancel_handle();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let cancel = cancel.clone();
                scope.spawn(move || {
                    for _ in 0..20 {
                        std::thread::sleep(Duration::from_micros(300 * (thread + 1)));
                        cancel.cancel();
                    }
                });
            }
            for _ in 0..5 {
                let (text, finish) = ask(&mut session, QUESTION);
                assert!(matches!(finish, Some(Finish::Cancelled | Finish::Eos)), "{finish:?} after {text:?}");
                session.clear().unwrap();
            }
        });
        assert_eq!(ask(&mut session, QUESTION), whole, "round {round}");
    }
}

#[test]
fn after_cancel_all_every_call_ends_at_once() {
    if no_gpu("after_cancel_all_every_call_ends_at_once") {
        return;
    }
    let mut session = engine().session(Sampling::GREEDY).unwrap();
    let whole = ask(&mut session, QUESTION);
    session.cancel_handle().cancel_all();
    let before = (session.messages().to_vec(), session.position());
    for _ in 0..2 {
        assert_eq!(ask(&mut session, QUESTION), (String::new(), Some(Finish::Cancelled)));
    }
    assert!(matches!(session.feed(&[1]), Err(Error::Cancelled)));
    assert_eq!((session.messages().to_vec(), session.position()), before);
    // Other sessions are not affected.
    let engine = session.engine().clone();
    drop(session);
    assert_eq!(ask(&mut engine.session(Sampling::GREEDY).unwrap(), QUESTION), whole);
}
