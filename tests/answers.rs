//! Answers that own their session: they go to other threads, are polled, stopped and dropped there.

mod common;

use common::{gpu, no_gpu, shipped};
use peregrine::runtime::{Answer, AnswerOptions, Checkpoint, Engine, EngineOptions, Finish, Prompt, Sampling, Session};
use peregrine::{Error, Specials};
use pollster::block_on;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const QUESTION: &str = "What is 3 plus 4?";
const ANSWER: &str = "3 plus 4 is 7.";

fn engine(slots: usize) -> Engine {
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let options = EngineOptions::default().slots(slots).chunk(4);
    Engine::load(&gpu(), checkpoint, options, &mut |_| {}).unwrap()
}

fn session(engine: &Engine) -> Session {
    engine.session(Sampling::GREEDY).unwrap()
}

fn ask(text: &str) -> Prompt {
    Prompt::Message(text.to_owned())
}

fn text(answer: &mut Answer<'_>) -> String {
    answer.map(Result::unwrap).collect()
}

/// Polls a future once.
fn once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn an_owned_answer_can_go_anywhere() {
    fn anywhere<T: Send + 'static>(_: Option<T>) {}
    anywhere::<Answer<'static>>(None);
    anywhere::<Session>(None);
    fn future_is_send<F: Future + Send>(_: impl FnOnce(&'static mut Answer<'static>) -> F) {}
    future_is_send(|answer| answer.next_async());
}

#[test]
fn an_owned_answer_says_what_a_borrowed_one_does_and_gives_its_session_back() {
    if no_gpu("an_owned_answer_says_what_a_borrowed_one_does_and_gives_its_session_back") {
        return;
    }
    let engine = engine(2);
    let (mut lent, owned) = (session(&engine), session(&engine));
    let said = text(&mut lent.send(QUESTION, &AnswerOptions::default()).unwrap());
    assert_eq!(said, ANSWER);
    let mut answer = owned.into_answer(ask(QUESTION), &AnswerOptions::default());
    assert_eq!((answer.session().messages().len(), answer.finish()), (0, None), "it has not begun");
    let (said, answer) = std::thread::spawn(move || (text(&mut answer), answer)).join().unwrap();
    assert_eq!((said.as_str(), answer.finish()), (ANSWER, Some(Finish::Eos)));
    let mut owned = answer.into_session().expect("it was owned");
    assert_eq!(owned.messages(), lent.messages());
    assert_eq!(owned.position(), lent.position());
    assert_eq!(owned.snapshot().unwrap().state(), lent.snapshot().unwrap().state());
    // A borrowed one has none to give.
    assert!(owned.send(QUESTION, &AnswerOptions::default()).unwrap().into_session().is_none());
}

#[test]
fn an_answer_that_cannot_begin_says_so_once_and_its_session_is_as_before() {
    if no_gpu("an_answer_that_cannot_begin_says_so_once_and_its_session_is_as_before") {
        return;
    }
    let engine = engine(1);
    let mut answer = session(&engine).into_answer(Prompt::Resume, &AnswerOptions::default());
    assert!(matches!(answer.next(), Some(Err(Error::NothingToResume))));
    assert!(answer.next().is_none());
    let mut session = answer.into_session().expect("it was owned");
    assert_eq!(text(&mut session.send(QUESTION, &AnswerOptions::default()).unwrap()), ANSWER);
    // One that never began leaves nothing either.
    let session = session.into_answer(ask("Never asked."), &AnswerOptions::default()).into_session().unwrap();
    assert_eq!(session.messages().len(), 2);
}

#[test]
fn a_cancel_before_the_first_piece_is_asked_for_ends_the_answer_and_no_other() {
    if no_gpu("a_cancel_before_the_first_piece_is_asked_for_ends_the_answer_and_no_other") {
        return;
    }
    let engine = engine(1);
    let mut session = session(&engine);
    let cancel = session.cancel_handle();
    let ids = engine.checkpoint().tokenizer().unwrap().encode(QUESTION, Specials::Literal).unwrap();
    for prompt in [ask(QUESTION), Prompt::Ids(ids)] {
        let mut answer = session.into_answer(prompt, &AnswerOptions::default());
        cancel.cancel();
        assert!(answer.next().is_none());
        assert_eq!(answer.finish(), Some(Finish::Cancelled));
        session = answer.into_session().unwrap();
        assert_eq!((session.messages().len(), session.position()), (0, 0));
    }
    // One that is never polled, or that cannot begin, takes the cancel with it.
    for (prompt, polls) in [(ask(QUESTION), 0), (Prompt::Resume, 1)] {
        let mut answer = session.into_answer(prompt, &AnswerOptions::default());
        answer.by_ref().take(polls).for_each(|piece| assert!(piece.is_err()));
        session = answer.into_session().unwrap();
        cancel.cancel();
        assert_eq!(text(&mut session.send(QUESTION, &AnswerOptions::default()).unwrap()), ANSWER);
        session.clear().unwrap();
    }
}

#[test]
fn answers_end_where_they_are_dropped_and_their_slot_is_free() {
    if no_gpu("answers_end_where_they_are_dropped_and_their_slot_is_free") {
        return;
    }
    let engine = engine(1);
    for tokens in [0, 1, 5] {
        let mut answer = session(&engine).into_answer(ask(QUESTION), &AnswerOptions::default());
        for _ in 0..tokens {
            answer.next().unwrap().unwrap();
        }
        std::thread::spawn(move || drop(answer)).join().unwrap();
    }
    // Cancelled from here, ended there; the session goes on where it was stopped.
    let session = session(&engine);
    let cancel = session.cancel_handle();
    let mut answer = session.into_answer(ask("Tell me a story."), &AnswerOptions::default());
    let first = answer.next().unwrap().unwrap();
    cancel.cancel();
    let (rest, answer) = std::thread::spawn(move || (text(&mut answer), answer)).join().unwrap();
    assert_eq!((rest.as_str(), answer.finish()), ("", Some(Finish::Cancelled)));
    let mut session = answer.into_session().unwrap();
    assert_eq!(session.messages()[1].content, first);
    let whole = first + &text(&mut session.resume(&AnswerOptions::default()).unwrap());
    let mut other = session;
    other.clear().unwrap();
    assert_eq!(text(&mut other.send("Tell me a story.", &AnswerOptions::default()).unwrap()), whole);
}

#[test]
fn many_answers_are_polled_in_turn_on_one_thread() {
    if no_gpu("many_answers_are_polled_in_turn_on_one_thread") {
        return;
    }
    let engine = engine(3);
    let questions = [QUESTION, "Tell me a story.", "What is 5 minus 2?"];
    let alone: Vec<String> = questions
        .iter()
        .map(|question| text(&mut session(&engine).send(question, &AnswerOptions::tokens(40)).unwrap()))
        .collect();
    let mut answers: Vec<_> = questions
        .iter()
        .map(|question| session(&engine).into_answer(ask(question), &AnswerOptions::tokens(40)))
        .collect();
    let mut together = vec![String::new(); answers.len()];
    block_on(async {
        let mut open = answers.len();
        while open > 0 {
            open = 0;
            for (answer, text) in answers.iter_mut().zip(&mut together) {
                if let Some(piece) = answer.next_async().await {
                    *text += &piece.unwrap();
                    open += 1;
                }
            }
        }
    });
    assert_eq!(together, alone);
}

#[test]
fn a_call_that_is_dropped_half_way_leaves_a_session_that_works() {
    if no_gpu("a_call_that_is_dropped_half_way_leaves_a_session_that_works") {
        return;
    }
    let engine = engine(2);
    let mut first = session(&engine);
    text(&mut first.send(QUESTION, &AnswerOptions::default()).unwrap());
    let before = first.mark().unwrap();
    let mut dropped = 0;
    // Another thread holds the slots most of the time: a poll often ends where they are waited for.
    let busy = std::thread::spawn({
        let mut other = session(&engine);
        move || text(&mut other.send("Tell me a story.", &AnswerOptions::tokens(200)).unwrap())
    });
    while !busy.is_finished() {
        let options = AnswerOptions::tokens(3);
        match once(first.answer_async(ask("And what is 4 plus 4? Say it slowly, and then once more."), &options)) {
            Poll::Pending => dropped += 1,
            Poll::Ready(answer) => drop(answer.unwrap()),
        }
        first.back_to(&before).unwrap();
    }
    busy.join().unwrap();
    assert!(dropped > 0, "no call was dropped half-way");
    let again = text(&mut first.send(QUESTION, &AnswerOptions::default()).unwrap());
    first.clear().unwrap();
    text(&mut first.send(QUESTION, &AnswerOptions::default()).unwrap());
    assert_eq!(text(&mut first.send(QUESTION, &AnswerOptions::default()).unwrap()), again);
}
