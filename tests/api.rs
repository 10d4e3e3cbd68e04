//! The public API that applications use, as types: a change that breaks an application breaks this file. `#[non_exhaustive]` structs
//! may gain fields, enums of errors may gain variants; what is listed here stays.

use peregrine::{
    AdapterChoice, Answer, AnswerOptions, CancelHandle, Checkpoint, Engine, EngineOptions, Error, ErrorKind, Finish,
    Gpu, Mark, Message, Prompt, Result, Sampling, Session, Snapshot, Specials, Tokenizer,
};

type Progress<'a> = &'a mut dyn FnMut(peregrine::runtime::Progress);

/// Nothing runs here: it compiles as long as every signature is as listed.
#[allow(dead_code, reason = "it is compiled, not called")]
fn listed() {
    // Gpu
    let _: fn(&AdapterChoice) -> Result<Gpu> = Gpu::open;
    let _: fn(&str) -> AdapterChoice = AdapterChoice::parse;
    let _ = [AdapterChoice::Best, AdapterChoice::Index(0), AdapterChoice::Name(String::new())];

    // Checkpoint
    let _: fn(&'static str) -> Result<Checkpoint> = Checkpoint::open;
    let _: fn() -> Result<Checkpoint> = Checkpoint::embedded;
    let _: fn(&'static str) -> Result<()> = Checkpoint::check_architecture;
    let _: fn(&Checkpoint) -> Result<&Tokenizer> = Checkpoint::tokenizer;

    // Tokenizer
    let _: fn(&Tokenizer, &str, Specials) -> Result<Vec<u32>> = Tokenizer::encode;
    let _: fn(&Tokenizer, &str, Specials) -> Result<Vec<u32>> = Tokenizer::encode_text;
    let _: fn(&Tokenizer, &[u32]) -> String = Tokenizer::decode;
    let _ = [Specials::Parse, Specials::Literal];

    // Engine
    let _: fn(&Gpu, Checkpoint, EngineOptions, Progress<'_>) -> Result<Engine> = Engine::load;
    let _: fn(&Engine, Sampling) -> Result<Session> = Engine::session;
    let _: fn(&Engine, Progress<'_>) -> Result<bool> = Engine::recover;
    let _: fn(&Engine, &Gpu, Progress<'_>) -> Result<bool> = Engine::recover_on;
    let _: fn(&Engine) -> &Checkpoint = Engine::checkpoint;
    let _: fn(&Engine) -> Gpu = Engine::gpu;
    let _: EngineOptions = EngineOptions::default().slots(1).chunk(512).memory(1 << 30);

    // Session
    let _: for<'a> fn(&'a mut Session, &str, &AnswerOptions) -> Result<Answer<'a>> = Session::send;
    let _: for<'a> fn(&'a mut Session, Vec<Message>, &AnswerOptions) -> Result<Answer<'a>> = Session::converse;
    let _: for<'a> fn(&'a mut Session, &[u32], &AnswerOptions) -> Result<Answer<'a>> = Session::complete;
    let _: for<'a> fn(&'a mut Session, &AnswerOptions) -> Result<Answer<'a>> = Session::resume;
    let _: for<'a> fn(&'a mut Session, &AnswerOptions) -> Result<Answer<'a>> = Session::retry;
    let _: fn(Session, Prompt, &AnswerOptions) -> Answer<'static> = Session::into_answer;
    let _: fn(&mut Session) -> Result<Message> = Session::undo;
    let _: fn(&Session) -> Result<Session> = Session::fork;
    let _: fn(&mut Session) -> Result<()> = Session::clear;
    let _: fn(&mut Session, &str) = Session::system;
    let _: fn(&Session) -> Result<Mark> = Session::mark;
    let _: fn(&mut Session, &Mark) -> Result<()> = Session::back_to;
    let _: fn(&Session) -> Result<Snapshot> = Session::snapshot;
    let _: fn(&mut Session, &Snapshot) -> Result<Vec<peregrine::runtime::Warning>> = Session::restore;
    let _: fn(&mut Session, &[u32]) -> Result<Vec<f32>> = Session::logits;
    let _: fn(&Session) -> &[Message] = Session::messages;
    let _: fn(&Session) -> u64 = Session::position;
    let _: fn(&Session) -> CancelHandle = Session::cancel_handle;
    let _: fn(&Session) -> &Engine = Session::engine;
    let _: fn(&Session) -> &Sampling = Session::sampling;
    let _: fn(&mut Session, Sampling) -> Result<()> = Session::set_sampling;
    let _ = [Prompt::Message(String::new()), Prompt::Messages(vec![]), Prompt::Ids(vec![]), Prompt::Resume];
    let _ = Prompt::Retry;

    // Answer
    fn pieces<T: Iterator<Item = Result<String>>>() {}
    pieces::<Answer<'_>>();
    let _: fn(&Answer<'static>) -> Option<Finish> = Answer::finish;
    let _: fn(Answer<'static>) -> Option<Session> = Answer::into_session;
    let _: AnswerOptions = AnswerOptions::tokens(1).max_tokens(2).stop(["a"]).logprobs(1);
    let _ = [Finish::Eos, Finish::Length, Finish::Stop, Finish::Cancelled, Finish::Failed];
    let _: fn(&CancelHandle) = CancelHandle::cancel;
    let _: fn(&CancelHandle) = CancelHandle::cancel_all;

    // Sampling
    let _: Sampling = Sampling::GREEDY.temperature(0.8).top_k(40).top_p(0.95).min_p(0.05).seed(1);
    let _: Sampling = Sampling::GREEDY.repeat_penalty(1.1).presence_penalty(0.0).frequency_penalty(0.0);
    let _: Sampling = Sampling::GREEDY.repeat_last_n(64).logit_bias(vec![(0, f32::NEG_INFINITY)]);

    // Snapshot
    let _: fn(&Snapshot, &'static str) -> Result<()> = Snapshot::save;
    let _: fn(&'static str) -> Result<Snapshot> = Snapshot::open;
    let _: fn(&Snapshot) -> Result<Vec<u8>> = Snapshot::to_bytes;
    let _: fn(&str, &[u8]) -> Result<Snapshot> = Snapshot::from_bytes;
    let _: fn(&Snapshot) -> u64 = Snapshot::position;
    let _: fn(&Snapshot) -> &[Message] = Snapshot::messages;
}

/// The async twins that other threads and tasks use.
#[allow(dead_code, reason = "it is compiled, not called")]
async fn twins(gpu: &Gpu, checkpoint: Checkpoint, mark: &Mark, snapshot: &Snapshot) -> Result<()> {
    let _: Gpu = Gpu::open_async(&AdapterChoice::Best).await?;
    let engine: Engine = Engine::load_async(gpu, checkpoint, EngineOptions::default(), &mut |_| {}).await?;
    let _: bool = engine.recover_async(&mut |_| {}).await?;
    let mut session: Session = engine.session_async(Sampling::GREEDY).await?;
    session.set_sampling_async(Sampling::GREEDY).await?;
    session.clear_async().await?;
    let _: Message = session.undo_async().await?;
    let _: Session = session.fork_async().await?;
    let _: Mark = session.mark_async().await?;
    session.back_to_async(mark).await?;
    let _: Snapshot = session.snapshot_async().await?;
    session.restore_async(snapshot).await?;
    let _: Vec<f32> = session.logits_async(&[5]).await?;
    let mut answer: Answer<'_> = session.answer_async(Prompt::Resume, &AnswerOptions::default()).await?;
    let _: Option<Result<String>> = answer.next_async().await;
    Ok(())
}

/// What goes to other threads.
#[test]
fn handles_and_answers_are_send() {
    fn send<T: Send + 'static>() {}
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Gpu>();
    shared::<Engine>();
    shared::<CancelHandle>();
    shared::<Error>();
    shared::<ErrorKind>();
    shared::<Snapshot>();
    send::<Session>();
    send::<Answer<'static>>();
    send::<Mark>();
}
