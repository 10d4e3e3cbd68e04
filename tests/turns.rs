//! Undo, fork and regenerate: nothing is read twice, or the session reports it.

mod common;
#[path = "common/small_states.rs"]
mod small_states;

use common::{gpu, no_gpu};
use peregrine::Error;
use peregrine::gpu::{AdapterChoice, Gpu};
use peregrine::runtime::{AnswerOptions, Engine, Finish, Sampling, Session, StateBudget};
use peregrine::text::Message;
use small_states::{PLAIN, engine};

/// A high temperature, so that about any token may come.
fn hot(seed: u64) -> Sampling {
    Sampling::GREEDY.temperature(3.0).repeat_penalty(1.2).repeat_last_n(8).seed(seed)
}

fn say(session: &mut Session, text: &str) -> String {
    session.send(text, &AnswerOptions::tokens(6)).unwrap().collect::<peregrine::Result<String>>().unwrap()
}

fn again(session: &mut Session) -> String {
    session.retry(&AnswerOptions::tokens(6)).unwrap().collect::<peregrine::Result<String>>().unwrap()
}

#[test]
fn going_back_reads_nothing() {
    if no_gpu("going_back_reads_nothing") {
        return;
    }
    let engine = engine(&gpu(), 2, PLAIN);
    let mut session = engine.session(hot(1)).unwrap();
    let first = say(&mut session, "One.");
    let after_one = session.position();
    let second = say(&mut session, "Two.");
    let fed = engine.counts().fed;
    assert_eq!(again(&mut session), second);
    session.set_sampling(hot(2)).unwrap();
    let other = again(&mut session);
    assert_ne!(other, second, "another seed gives another answer");
    let mark = session.mark().unwrap();
    let fork = session.fork().unwrap();
    assert_eq!(session.undo().unwrap().content, "Two.");
    assert_eq!((session.position(), session.messages().len()), (after_one, 2));
    session.set_sampling(hot(1)).unwrap();
    assert_eq!(again(&mut session), first);
    session.back_to(&mark).unwrap();
    assert_eq!(session.messages(), fork.messages());
    assert_eq!(session.messages()[3].content, other);
    session.undo().unwrap();
    session.undo().unwrap();
    assert!(matches!(session.undo(), Err(Error::NothingToUndo)));
    assert_eq!((session.position(), session.messages().len()), (0, 0));
    assert_eq!(engine.counts().fed, fed, "something was read again");
    // Only now is something read.
    assert_eq!(say(&mut session, "One."), first);
    assert!(engine.counts().fed > fed);
}

#[test]
fn without_stored_states_the_conversation_is_read_again_and_reported() {
    if no_gpu("without_stored_states_the_conversation_is_read_again_and_reported") {
        return;
    }
    let engine = engine(&gpu(), 2, PLAIN);
    engine.set_state_budget(StateBudget::NONE).unwrap();
    let mut session = engine.session(hot(1)).unwrap();
    say(&mut session, "One.");
    let mark = session.mark().unwrap();
    let two = say(&mut session, "Two.");
    // A fork copies the state directly and needs no budget.
    let mut fork = session.fork().unwrap();
    assert_eq!(fork.messages(), session.messages());
    let three = say(&mut fork, "Three.");
    assert!(!fork.was_read_again());
    assert_eq!(say(&mut session, "Three."), three);
    drop(fork);
    // It must equal the same messages in one prompt.
    let anew = |messages: &[Message]| {
        let checkpoint = engine.checkpoint();
        let ids = checkpoint.encode(&checkpoint.render(messages, true).unwrap()).unwrap();
        let mut session = engine.session(hot(1)).unwrap();
        let answer = session.complete(&ids, &AnswerOptions::tokens(6)).unwrap();
        answer.collect::<peregrine::Result<String>>().unwrap()
    };
    session.undo().unwrap();
    assert_eq!(session.messages().len(), 4);
    let messages = session.messages().to_vec();
    assert_eq!(messages[3].content, two);
    let expected = anew(&messages[..3]);
    assert_eq!(again(&mut session), expected);
    assert!(session.was_read_again());
    session.undo().unwrap();
    let expected = anew(&[&messages[..2], &[Message::new("user", "Four.")]].concat());
    assert_eq!(say(&mut session, "Four."), expected);
    assert!(session.was_read_again());
    say(&mut session, "Five.");
    assert!(!session.was_read_again());
    session.back_to(&mark).unwrap();
    assert_eq!(session.messages(), &messages[..2]);
    assert_eq!(say(&mut session, "Four."), expected);
    assert!(session.was_read_again());
    // Without messages nothing can be read again.
    session.clear().unwrap();
    session.feed(&[1, 2, 3]).unwrap();
    let mark = session.mark().unwrap();
    session.feed(&[4]).unwrap();
    assert!(matches!(session.back_to(&mark), Err(Error::StateNotKept { .. })));
    assert_eq!(session.position(), 4);
}

#[test]
fn a_message_not_fully_read_leaves_the_state_before_it() {
    if no_gpu("a_message_not_fully_read_leaves_the_state_before_it") {
        return;
    }
    let engine = engine(&gpu(), 2, PLAIN);
    let mut session = engine.session(hot(1)).unwrap();
    say(&mut session, "One.");
    let (position, messages) = (session.position(), session.messages().to_vec());
    let mut fork = session.fork().unwrap();
    let long = "On and on. ".repeat(400);
    let (cancel, chunks) = (session.cancel_handle(), engine.counts().chunks);
    let finish = std::thread::scope(|scope| {
        scope.spawn(|| {
            while engine.counts().chunks < chunks + 5 {}
            cancel.cancel();
        });
        let mut answer = session.send(&long, &AnswerOptions::tokens(6)).unwrap();
        assert!(answer.next().is_none());
        (answer.finish(), answer.generation().tokens())
    });
    assert_eq!(finish, (Some(Finish::Cancelled), 0));
    assert_eq!((session.position(), session.messages()), (position, messages.as_slice()));
    assert_eq!(say(&mut session, "Two."), say(&mut fork, "Two."));
    assert!(!session.was_read_again());
}

#[test]
fn marks_of_another_engine_have_no_state() {
    if no_gpu("marks_of_another_engine_have_no_state") {
        return;
    }
    let gpu = gpu();
    let (one, two) = (engine(&gpu, 1, PLAIN), engine(&gpu, 1, PLAIN));
    let mut session = one.session(hot(1)).unwrap();
    say(&mut session, "One.");
    let mut other = two.session(hot(1)).unwrap();
    other.back_to(&session.mark().unwrap()).unwrap();
    assert_eq!((other.messages(), other.position()), (session.messages(), 0));
    say(&mut other, "Two.");
    assert!(other.was_read_again());
}

/// A sampling that bans every token, so that no answer can begin.
fn all_banned(engine: &Engine) -> Sampling {
    let ids = 0..u32::try_from(engine.checkpoint().config().vocab).unwrap();
    hot(1).logit_bias(ids.map(|id| (id, f32::NEG_INFINITY)).collect())
}

/// The observable state of a session.
fn seen(session: &Session) -> (Vec<Message>, u64) {
    (session.messages().to_vec(), session.position())
}

#[test]
fn an_answer_that_cannot_begin_leaves_the_session_unchanged() {
    if no_gpu("an_answer_that_cannot_begin_leaves_the_session_unchanged") {
        return;
    }
    let engine = engine(&gpu(), 2, PLAIN);
    let (mut session, mut other) = (engine.session(hot(1)).unwrap(), engine.session(hot(1)).unwrap());
    for session in [&mut session, &mut other] {
        say(session, "One.");
        say(session, "Two.");
    }
    let before = seen(&session);
    session.set_sampling(all_banned(&engine)).unwrap();
    let options = AnswerOptions::tokens(6);
    let fed = engine.counts().fed;
    assert!(matches!(session.retry(&options).map(drop), Err(Error::AllBanned { .. })));
    assert_eq!(seen(&session), before, "after retry");
    assert_eq!(engine.counts().fed, fed, "retry read something");
    assert!(matches!(session.send("Three.", &options).map(drop), Err(Error::AllBanned { .. })));
    assert_eq!(seen(&session), before, "after send");
    for messages in [vec![Message::new("user", "Else.")], [&before.0[..], &[Message::new("user", "More.")]].concat()] {
        assert!(matches!(session.converse(messages, &options).map(drop), Err(Error::AllBanned { .. })));
        assert_eq!(seen(&session), before, "after converse");
    }
    session.set_sampling(hot(1)).unwrap();
    assert_eq!(say(&mut session, "Three."), say(&mut other, "Three."));
    assert!(!session.was_read_again());
    assert_eq!(seen(&session), seen(&other));
    assert_eq!(again(&mut session), again(&mut other));
    session.undo().unwrap();
    assert_eq!(seen(&session), before);
}

#[test]
fn a_lost_device_loses_no_message() {
    if no_gpu("a_lost_device_loses_no_message") {
        return;
    }
    let gpu = Gpu::open(&AdapterChoice::Best).unwrap();
    let engine = engine(&gpu, 1, PLAIN);
    let mut session = engine.session(hot(1)).unwrap();
    say(&mut session, "One.");
    let messages = session.messages().to_vec();
    gpu.destroy();
    let options = AnswerOptions::tokens(6);
    for _ in 0..2 {
        assert!(matches!(session.send("Two.", &options).map(drop), Err(Error::DeviceLost { .. })));
        assert_eq!(session.messages(), messages);
        assert!(matches!(session.retry(&options).map(drop), Err(Error::DeviceLost { .. })));
        assert_eq!(session.messages(), messages);
        assert!(matches!(session.converse(messages[..1].to_vec(), &options).map(drop), Err(Error::DeviceLost { .. })));
        assert_eq!(session.messages(), messages);
    }
}

#[test]
fn an_endless_template_can_be_cancelled() {
    if no_gpu("an_endless_template_can_be_cancelled") {
        return;
    }
    // The template needs at least a second to use up its budget.
    let doubled = "{% set ns = namespace(l=[1]) %}{% for i in range(90000) %}{% set ns.l = ns.l + ns.l %}{{ ns.l|list|length }}{% endfor %}";
    let engine = engine(&gpu(), 1, doubled);
    let mut session = engine.session(hot(1)).unwrap();
    let options = AnswerOptions::tokens(6);
    let cancel = session.cancel_handle();
    assert!(matches!(session.send("One.", &options).map(drop), Err(Error::Template { .. })));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            cancel.cancel();
        });
        session.send("One.", &options).map(|answer| answer.finish())
    });
    assert!(matches!(outcome, Ok(Some(Finish::Cancelled))), "{outcome:?}");
    assert_eq!(seen(&session), (vec![], 0));
}
