//! Wherever and however an answer stops, the state is that of the last token shown.

mod common;

use common::{fixture, gpu, no_gpu, shipped};
use peregrine::Error;
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Finish, Sampling, Session};
use peregrine::text::TextStream;
use std::path::Path;

fn engine(dir: &Path, options: EngineOptions) -> Engine {
    Engine::load(&gpu(), Checkpoint::open(dir).unwrap(), options, &mut |_| {}).unwrap()
}

/// The next `count` tokens after feeding `ids`.
fn tokens(session: &mut Session, ids: &[u32], count: usize) -> Vec<u32> {
    let mut generation = session.generate(ids, &AnswerOptions::tokens(count)).unwrap();
    while generation.next_id().unwrap().is_some() {}
    generation.ids().to_vec()
}

/// A generated text: its length after each token, and whether a character is incomplete there.
struct Made {
    ids: Vec<u32>,
    text: String,
    ends: Vec<(usize, bool)>,
}

fn make(engine: &Engine, sampling: &Sampling, prompt: &[u32], count: usize) -> Made {
    let ids = tokens(&mut engine.session(sampling.clone()).unwrap(), prompt, count);
    let tokenizer = engine.checkpoint().tokenizer().unwrap();
    let (mut stream, mut text, mut ends) = (TextStream::default(), String::new(), vec![]);
    for id in &ids {
        let bytes = if tokenizer.is_special(*id) { &[] } else { tokenizer.bytes(*id).unwrap() };
        text += &stream.push(bytes);
        ends.push((text.len(), !stream.pending().is_empty()));
    }
    Made { ids, text, ends }
}

/// Stops at `stop` and checks text and state; gives how many tokens had to be taken back.
fn stops_at(engine: &Engine, sampling: &Sampling, prompt: &[u32], made: &Made, stop: &str) -> usize {
    let at = made.text.find(stop).unwrap();
    let wholly_before = made.ends.iter().rposition(|(end, open)| *end <= at && !open);
    let keep = wholly_before.map_or(0, |i| i + 1);
    let options = AnswerOptions::tokens(made.ids.len()).stop(["\0never", stop]);
    let mut session = engine.session(sampling.clone()).unwrap();
    let mut answer = session.complete(prompt, &options).unwrap();
    let mut shown = String::new();
    for piece in &mut answer {
        shown += &piece.unwrap();
        assert!(made.text.starts_with(&shown) && shown.len() <= at, "{stop:?}: half a stop string was shown");
    }
    assert_eq!(answer.finish(), Some(Finish::Stop), "{stop:?}");
    drop(answer);
    assert_eq!(shown, &made.text[..at], "{stop:?}");
    assert_eq!(session.position(), (prompt.len() + keep) as u64, "{stop:?}");
    // Continuing from there equals continuing after exactly these tokens.
    let then = &prompt[..2];
    let got = tokens(&mut session, then, 4);
    drop(session);
    let mut straight = engine.session(sampling.clone()).unwrap();
    let mut generation = straight.generate(prompt, &AnswerOptions::default()).unwrap();
    for id in &made.ids[..keep] {
        assert_eq!(generation.next_id().unwrap(), Some(*id));
    }
    drop(generation);
    assert_eq!(got, tokens(&mut straight, then, 4), "{stop:?} after {keep} tokens");
    let ended = made.ends.iter().position(|(end, _)| *end >= at + stop.len()).unwrap();
    ended + 1 - keep
}

#[test]
fn a_stop_string_leaves_the_state_before_it_at_every_position() {
    if no_gpu("a_stop_string_leaves_the_state_before_it_at_every_position") {
        return;
    }
    let engine = engine(&shipped("tiny-chat"), EngineOptions::default());
    let tokenizer = engine.checkpoint().tokenizer().unwrap();
    let prompt = tokenizer.encode("Once upon a time", peregrine::text::Specials::Literal).unwrap();
    let greedy = Sampling::GREEDY;
    let made = make(&engine, &greedy, &prompt, 50);
    let mut deepest = 0;
    for from in (1..made.text.len() - 14).step_by(11) {
        deepest = deepest.max(stops_at(&engine, &greedy, &prompt, &made, &made.text[from..from + 14]));
    }
    assert!(deepest > 3, "only {deepest} tokens were ever taken back");
}

#[test]
fn stop_strings_work_inside_of_characters_and_with_penalties() {
    if no_gpu("stop_strings_work_inside_of_characters_and_with_penalties") {
        return;
    }
    let engine = engine(&fixture("falcon-tiny"), EngineOptions::default());
    // Random bytes: characters that end in the next token, or never.
    let hot = Sampling::GREEDY.temperature(1e4).seed(5).presence_penalty(0.5);
    let prompt = [5, 6, 7];
    let made = make(&engine, &hot, &prompt, 60);
    let chars: Vec<(usize, char)> = made.text.char_indices().collect();
    let mut open = 0;
    for window in chars.windows(4).step_by(3) {
        let stop = &made.text[window[0].0..window[3].0];
        stops_at(&engine, &hot, &prompt, &made, stop);
        open += usize::from(!stop.is_ascii());
    }
    assert!(open > 3, "no stop string had a character of several bytes");
}

#[test]
fn cancelled_anywhere_and_resumed_equals_never_cancelled() {
    if no_gpu("cancelled_anywhere_and_resumed_equals_never_cancelled") {
        return;
    }
    let engine = engine(&shipped("tiny-chat"), EngineOptions::default());
    let sampling = Sampling::GREEDY.temperature(0.9).seed(3).repeat_penalty(1.2);
    let options = AnswerOptions::tokens(52);
    let whole: String = engine
        .session(sampling.clone())
        .unwrap()
        .send("Tell me a story.", &options)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    // One session, cancelled after every token, 50 times.
    let mut session = engine.session(sampling).unwrap();
    let handle = session.cancel_handle();
    let mut text = String::new();
    let mut cancelled = 0;
    loop {
        let rest = AnswerOptions::tokens(52 - cancelled);
        let mut answer =
            if cancelled == 0 { session.send("Tell me a story.", &rest) } else { session.resume(&rest) }.unwrap();
        if cancelled == 50 {
            text.extend(answer.by_ref().map(Result::unwrap));
            assert_eq!(answer.finish(), Some(Finish::Length));
            break;
        }
        while answer.generation().ids().is_empty() {
            match answer.next() {
                Some(piece) => text += &piece.unwrap(),
                None => break,
            }
        }
        let handle = handle.clone();
        std::thread::spawn(move || handle.cancel()).join().unwrap();
        text.extend(answer.by_ref().map(Result::unwrap));
        assert_eq!((answer.finish(), answer.generation().ids().len()), (Some(Finish::Cancelled), 1));
        cancelled += 1;
    }
    assert_eq!(text, whole);
    assert_eq!(session.messages().len(), 2);
    assert_eq!(session.messages()[1].content, whole);
}

#[test]
fn only_a_cut_off_answer_can_be_resumed() {
    if no_gpu("only_a_cut_off_answer_can_be_resumed") {
        return;
    }
    let engine = engine(&shipped("tiny-chat"), EngineOptions::default().chunk(4));
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    let options = AnswerOptions::tokens(30);
    let answer: String = session.send("What is 3 plus 4?", &options).unwrap().map(Result::unwrap).collect();
    assert_eq!(answer, "3 plus 4 is 7.");
    assert!(matches!(session.resume(&options).err(), Some(Error::NothingToResume)));
    // An answer cut off by its limit can be resumed.
    let first: String =
        session.send("What is 12 plus 2?", &AnswerOptions::tokens(3)).unwrap().map(Result::unwrap).collect();
    let rest: String = session.resume(&options).unwrap().map(Result::unwrap).collect();
    assert_eq!(first + &rest, "12 plus 2 is 14.");
    assert_eq!(session.messages()[3].content, "12 plus 2 is 14.");
}
