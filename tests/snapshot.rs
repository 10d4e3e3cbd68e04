//! Snapshots: continuing from one gives the same bits as never stopping, and a rejected one changes nothing.

mod common;
mod program;

use common::{Shape, TINY, fixture, gpu, no_gpu, shipped};
use peregrine::Error;
use peregrine::format::WeightFormat;
use peregrine::gpu::Gpu;
use peregrine::kernels::linear::Math;
use peregrine::model::Recipe;
use peregrine::runtime::{
    AnswerOptions, Checkpoint, Engine, EngineOptions, Precision, Sampling, Session, Snapshot, Warning,
};
use peregrine::text::Specials;
use program::{of_other_test, other_test};
use std::path::{Path, PathBuf};

/// Rows of 256 values: every format has whole blocks of it.
const WIDE: Shape = Shape { vocab: 64, hidden: 256, inner: 256, state: 4, dt_rank: 8, ..TINY };

fn load(gpu: &Gpu, path: &Path, weights: Recipe) -> Engine {
    let options = EngineOptions::default().slots(2).chunk(8).weights(weights);
    Engine::load(gpu, Checkpoint::open(path).unwrap(), options, &mut |_| {}).unwrap()
}

fn wide(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    WIDE.write(dir);
    dir.to_owned()
}

fn tiny_chat(gpu: &Gpu) -> Engine {
    load(gpu, &shipped("tiny-chat"), Recipe::AsStored)
}

fn warm(seed: u64) -> Sampling {
    Sampling::GREEDY
        .temperature(1.1)
        .top_p(0.97)
        .seed(seed)
        .repeat_penalty(1.2)
        .presence_penalty(0.3)
        .frequency_penalty(0.1)
        .logit_bias(vec![(3, f32::NEG_INFINITY), (5, 0.5)])
}

/// Generates `count` tokens.
fn more(session: &mut Session, count: usize) -> Vec<u32> {
    let mut generation = session.generate(&[], &AnswerOptions::tokens(count)).unwrap();
    while generation.next_id().unwrap().is_some() {}
    generation.ids().to_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

const PROMPT: [u32; 21] = [7, 60, 1, 33, 2, 2, 9, 41, 17, 5, 63, 0, 12, 30, 30, 31, 8, 55, 21, 4, 6];

/// Position of the first snapshot in the prompt, not at a chunk boundary.
const MIDDLE: usize = 11;

#[test]
fn another_process_continues_bit_for_bit_in_every_format() {
    if no_gpu("another_process_continues_bit_for_bit_in_every_format") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (gpu, model) = (gpu(), wide(&dir.path().join("model")));
    for (i, format) in WeightFormat::ALL.into_iter().enumerate() {
        let engine = load(&gpu, &model, Recipe::To(format));
        let file = |what: &str| dir.path().join(format!("{format}.{what}"));
        for sampling in [Sampling::GREEDY, warm(i as u64)] {
            let kind = if sampling.temperature == 0.0 { "greedy" } else { "warm" };
            let mut session = engine.session(sampling).unwrap();
            session.keep_ids(i % 2 == 0).unwrap();
            session.feed(&PROMPT[..MIDDLE]).unwrap();
            session.snapshot().unwrap().save(file(&format!("{kind}.prompt"))).unwrap();
            session.feed(&PROMPT[MIDDLE..]).unwrap();
            more(&mut session, 5);
            session.snapshot().unwrap().save(file(&format!("{kind}.answer"))).unwrap();
            more(&mut session, 9);
            assert!(session.snapshot().unwrap().origin().weights().contains(format.name()));
            session.snapshot().unwrap().save(file(&format!("{kind}.end"))).unwrap();
        }
    }
    let child = other_test("the_other_process_that_continues", dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(said.contains("went on 44 times"), "{said}");
}

#[test]
#[ignore = "the other half of the test before it"]
fn the_other_process_that_continues() {
    let Some(dir) = of_other_test() else { return };
    let gpu = gpu();
    let mut count = 0;
    for format in WeightFormat::ALL {
        let engine = load(&gpu, &dir.join("model"), Recipe::To(format));
        for kind in ["greedy", "warm"] {
            let end = std::fs::read(dir.join(format!("{format}.{kind}.end"))).unwrap();
            for from in ["prompt", "answer"] {
                let snapshot = Snapshot::open(dir.join(format!("{format}.{kind}.{from}"))).unwrap();
                // The restore replaces other settings and another history.
                let mut session = engine.session(warm(99)).unwrap();
                session.feed(&[1, 2, 3]).unwrap();
                assert_eq!(session.restore(&snapshot).unwrap(), [], "{format} {kind} {from}");
                if from == "prompt" {
                    session.feed(&PROMPT[MIDDLE..]).unwrap();
                    more(&mut session, 5);
                }
                more(&mut session, 9);
                // State, logits and ids are equal.
                assert!(session.snapshot().unwrap().to_bytes().unwrap() == end, "{format} {kind} {from}");
                count += 1;
            }
        }
    }
    println!("went on {count} times");
}

#[test]
fn after_a_restore_no_prompt_and_the_same_prompt_work() {
    if no_gpu("after_a_restore_no_prompt_and_the_same_prompt_work") {
        return;
    }
    let engine = tiny_chat(&gpu());
    let options = AnswerOptions::tokens(20);
    let prompt = engine.checkpoint().tokenizer().unwrap().encode("Once upon a time", Specials::Literal).unwrap();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    session.feed(&prompt).unwrap();
    let snapshot = session.snapshot().unwrap();
    let text = |session: &mut Session, ids: &[u32]| -> String {
        session.complete(ids, &options).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let first = text(&mut session, &[]);
    assert!(!first.is_empty());
    let mut again = engine.session(Sampling::GREEDY).unwrap();
    for _ in 0..2 {
        again.restore(&snapshot).unwrap();
        assert_eq!(text(&mut again, &[]), first);
    }
    // The prompt again after the prompt.
    session.clear().unwrap();
    session.feed(&prompt).unwrap();
    let twice = text(&mut session, &prompt);
    again.restore(&snapshot).unwrap();
    assert_eq!(text(&mut again, &prompt), twice);
    // A snapshot of an empty session is valid.
    drop(again);
    let nothing = engine.session(warm(3)).unwrap().snapshot().unwrap();
    assert_eq!((nothing.position(), nothing.ids()), (0, None));
    session.restore(&nothing).unwrap();
    assert!(matches!(session.resume(&options), Err(Error::NothingToResume)));
    assert!(!text(&mut session, &prompt).is_empty());
    assert_eq!(session.sampling(), &warm(3));
}

#[test]
fn a_restored_conversation_has_its_messages_and_its_unfinished_answer() {
    if no_gpu("a_restored_conversation_has_its_messages_and_its_unfinished_answer") {
        return;
    }
    let engine = tiny_chat(&gpu());
    let say = |session: &mut Session, text: &str, tokens: usize| -> String {
        session.send(text, &AnswerOptions::tokens(tokens)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let rest = |session: &mut Session| -> String {
        session.resume(&AnswerOptions::tokens(100)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let mut whole = engine.session(Sampling::GREEDY).unwrap();
    say(&mut whole, "Tell me a story about a fox.", 8);
    let cut = whole.snapshot().unwrap();
    let expected = (rest(&mut whole), say(&mut whole, "What is 12 plus 2?", 100));
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    session.restore(&Snapshot::from_bytes("cut", &cut.to_bytes().unwrap()).unwrap()).unwrap();
    assert_eq!(session.messages().len(), 2);
    assert_eq!((rest(&mut session), say(&mut session, "What is 12 plus 2?", 100)), expected);
    assert!(!session.was_read_again());
    assert_eq!(session.messages(), whole.messages());
    // A complete answer cannot be resumed.
    let ended = session.snapshot().unwrap();
    assert!(ended.ended());
    session.clear().unwrap();
    session.restore(&ended).unwrap();
    assert!(matches!(session.resume(&AnswerOptions::tokens(1)), Err(Error::NothingToResume)));
}

#[test]
fn a_rejected_snapshot_changes_nothing() {
    if no_gpu("a_rejected_snapshot_changes_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let gpu = gpu();
    let engine = load(&gpu, &wide(&dir.path().join("model")), Recipe::AsStored);
    let mut session = engine.session(warm(1)).unwrap();
    session.feed(&PROMPT).unwrap();
    let before = session.snapshot().unwrap();
    let file = dir.path().join("state");
    before.save(&file).unwrap();
    let good = std::fs::read(&file).unwrap();

    // Other models: of another shape, and of the same shape with other weights.
    let shapes = [
        ("hidden", Shape { hidden: 64, ..WIDE }, "hidden size is 64 there and 256 here"),
        ("plain", Shape { falcon: false, ..WIDE }, "family is mamba there and falcon_mamba here"),
        ("vocab", Shape { vocab: 65, ..WIDE }, "vocabulary is 65 there"),
    ];
    for (name, shape, said) in shapes {
        let other = dir.path().join(name);
        std::fs::create_dir(&other).unwrap();
        shape.write(&other);
        let mut session = load(&gpu, &other, Recipe::AsStored).session(Sampling::GREEDY).unwrap();
        session.feed(&[1, 2]).unwrap();
        session.snapshot().unwrap().save(dir.path().join(format!("{name}.state"))).unwrap();
        refused(&engine, &dir.path().join(format!("{name}.state")), said, &before);
    }
    let twin = dir.path().join("twin");
    std::fs::create_dir(&twin).unwrap();
    WIDE.write(&twin);
    let mut tensors = WIDE.tensors();
    tensors.iter_mut().flat_map(|(_, _, values)| values.iter_mut()).for_each(|v| *v *= 1.01);
    std::fs::write(twin.join("model.safetensors"), WIDE.safetensors_of(tensors)).unwrap();
    for (i, weights) in [Recipe::AsStored, Recipe::To(WeightFormat::Q4_0)].into_iter().enumerate() {
        let session = load(&gpu, &twin, weights).session(Sampling::GREEDY).unwrap();
        let path = dir.path().join(format!("twin{i}.state"));
        session.snapshot().unwrap().save(&path).unwrap();
        refused(&engine, &path, "the weights differ", &before);
    }
    // Damaged files.
    for at in (0..good.len()).step_by(good.len() / 50) {
        let mut changed = good.clone();
        changed[at] ^= 0x10;
        std::fs::write(&file, changed).unwrap();
        assert!(Snapshot::open(&file).is_err(), "byte {at}");
        std::fs::write(&file, &good[..at]).unwrap();
        assert!(Snapshot::open(&file).unwrap_err().to_string().contains("cut off"), "{at}");
    }
    assert!(matches!(Snapshot::open(dir.path()), Err(Error::Unreadable { .. })));
    assert!(matches!(Snapshot::open(dir.path().join("nowhere")), Err(Error::Unreadable { .. })));
    #[cfg(unix)]
    assert!(matches!(Snapshot::open("/dev/zero"), Err(Error::NotAState { .. })));
    let model = dir.path().join("model/model.safetensors");
    assert!(matches!(Snapshot::open(model), Err(Error::NotAState { .. })));
    // Control: the original is accepted.
    std::fs::write(&file, &good).unwrap();
    assert_eq!(session.restore(&Snapshot::open(&file).unwrap()).unwrap(), []);
}

/// Checks that a rejected restore does not change a session that continues from `before`.
fn refused(engine: &Engine, file: &Path, said: &str, before: &Snapshot) {
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    session.restore(before).unwrap();
    let other = Snapshot::open(file).unwrap();
    let text = session.restore(&other).unwrap_err().to_string();
    assert!(text.contains("another model") && text.contains(said), "{said:?} is missing in: {text}");
    let untouched = session.snapshot().unwrap();
    assert_eq!(&untouched, before);
    let tokens = more(&mut session, 6);
    session.restore(before).unwrap();
    assert_eq!(more(&mut session, 6), tokens);
}

#[test]
fn restoring_into_another_format_of_the_model_warns() {
    if no_gpu("restoring_into_another_format_of_the_model_warns") {
        return;
    }
    let gpu = gpu();
    let state = |path: &Path, weights| {
        let mut session = load(&gpu, path, weights).session(Sampling::GREEDY).unwrap();
        session.feed(&[1, 2, 3]).unwrap();
        session.snapshot().unwrap()
    };
    // tiny-chat in f16 as a GGUF file, as blocks and as bitsandbytes' codes.
    let dir = tempfile::tempdir().unwrap();
    let copies = [("a.gguf", WeightFormat::F16), ("b.gguf", WeightFormat::Q4_0), ("folder", WeightFormat::Nf4)];
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let engine = tiny_chat(&gpu);
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    for (name, weights) in copies {
        let path = dir.path().join(name);
        let options = peregrine::runtime::ExportOptions { weights, existing: peregrine::runtime::Existing::Refuse };
        checkpoint.export(&path, options, &mut |_| {}).unwrap();
        let warnings = session.restore(&state(&path, Recipe::AsStored)).unwrap();
        assert!(
            matches!(&warnings[..], [Warning::Weights { was, .. }] if was.contains(weights.name())),
            "{warnings:?}"
        );
        assert!(warnings[0].to_string().contains(weights.name()));
    }
    let warnings = session.restore(&state(&shipped("tiny-chat"), Recipe::To(WeightFormat::Q4_0))).unwrap();
    assert!(matches!(&warnings[..], [Warning::Weights { .. }]), "{warnings:?}");
    assert_eq!(session.restore(&state(&shipped("tiny-chat"), Recipe::AsStored)).unwrap(), []);
    // Fixtures of one model in several types, as their libraries wrote them.
    let bf16 = load(&gpu, &fixture("falcon-tiny-bf16"), Recipe::AsStored);
    let mut session = bf16.session(Sampling::GREEDY).unwrap();
    for name in ["falcon-tiny", "falcon-tiny-f16", "falcon-tiny-int8", "falcon-tiny-nf4", "falcon-tiny-fp4"] {
        let warnings = session.restore(&state(&fixture(name), Recipe::AsStored));
        let warnings = warnings.unwrap_or_else(|e| panic!("{name}: {e}"));
        // Their configs have other epsilons.
        assert!(matches!(warnings[0], Warning::Weights { .. }), "{name}: {warnings:?}");
    }
}

#[test]
fn restoring_into_another_class_of_arithmetic_warns() {
    if no_gpu("restoring_into_another_class_of_arithmetic_warns") {
        return;
    }
    let gpu = gpu();
    let options = EngineOptions::default().math(Math::Fast);
    let engine = Engine::load(&gpu, Checkpoint::open(fixture("falcon-tiny")).unwrap(), options, &mut |_| {}).unwrap();
    let snapshot = engine.session(Sampling::GREEDY).unwrap().snapshot().unwrap();
    let exact = load(&gpu, &fixture("falcon-tiny"), Recipe::AsStored);
    let warnings = exact.session(Sampling::GREEDY).unwrap().restore(&snapshot).unwrap();
    assert!(warnings.contains(&Warning::Arithmetic { was: Math::Fast, now: Math::Exact }), "{warnings:?}");
}

#[test]
fn half_precision_is_half_the_size_and_within_the_stated_error() {
    if no_gpu("half_precision_is_half_the_size_and_within_the_stated_error") {
        return;
    }
    let engine = tiny_chat(&gpu());
    let tokenizer = engine.checkpoint().tokenizer().unwrap();
    let (mut whole, mut half) = (engine.session(Sampling::GREEDY).unwrap(), engine.session(Sampling::GREEDY).unwrap());
    let (mut worst, mut same, mut all) = (0.0f32, 0, 0);
    for prompt in ["Once upon a time", "Tom and the little cat went to the big", "One day, Lily saw a red ball. She"] {
        let prompt = tokenizer.encode(prompt, Specials::Literal).unwrap();
        whole.clear().unwrap();
        whole.feed(&prompt).unwrap();
        more(&mut whole, 30);
        let snapshot = whole.snapshot().unwrap();
        let halved = snapshot.clone().halved();
        let (size, full) = (halved.to_bytes().unwrap().len(), snapshot.to_bytes().unwrap().len());
        assert!(size * 100 < full * 58, "{size} of {full} bytes");
        assert_eq!(half.restore(&halved).unwrap(), [Warning::Half]);
        assert_eq!(half.snapshot().unwrap().precision(), Precision::Whole);
        // The first token is sampled from logits stored in full precision.
        assert_eq!(bits(&half.snapshot().unwrap().state().logits), bits(&snapshot.state().logits));
        for _ in 0..100 {
            let id = more(&mut whole, 1);
            if id.is_empty() {
                break;
            }
            let logits = |session: &Session| session.snapshot().unwrap().state().logits.clone();
            let largest = logits(&whole).iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let other = more(&mut half, 1);
            (same, all) = (same + usize::from(id == other), all + 1);
            if id != other {
                break;
            }
            let off = logits(&whole).iter().zip(logits(&half)).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            worst = worst.max(off / largest);
        }
    }
    eprintln!("half precision: logits off by {worst:e} of the largest at most, {same} of {all} tokens the same");
    assert!(worst > 0.0 && worst < 2e-3, "{worst}");
    assert!(same == all && all > 100, "{same} of {all} tokens are the same");
}

#[test]
fn the_ids_in_a_snapshot_are_the_consumed_ones() {
    if no_gpu("the_ids_in_a_snapshot_are_the_consumed_ones") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let engine = load(&gpu(), &wide(&dir.path().join("model")), Recipe::AsStored);
    let mut session = engine.session(warm(4)).unwrap();
    session.keep_ids(true).unwrap();
    session.feed(&PROMPT).unwrap();
    let answer = more(&mut session, 7);
    let all = [&PROMPT[..], &answer].concat();
    assert_eq!(session.ids(), Some(&all[..]));
    let snapshot = session.snapshot().unwrap();
    assert_eq!((snapshot.ids(), snapshot.recent()), (Some(&all[..]), &all[..]));
    let mut other = engine.session(warm(5)).unwrap();
    other.feed(&PROMPT).unwrap();
    assert_eq!(other.ids(), None);
    assert!(matches!(other.keep_ids(true), Err(Error::BadSetting { .. })));
    assert_eq!(other.snapshot().unwrap().ids(), None);
    other.restore(&snapshot).unwrap();
    let more_of_it = more(&mut other, 3);
    assert_eq!(other.ids(), Some(&[&all[..], &more_of_it].concat()[..]));
    other.clear().unwrap();
    assert_eq!(other.ids(), Some(&[][..]));
}

#[test]
fn penalties_and_ids_reach_equally_far_back_after_a_restore() {
    if no_gpu("penalties_and_ids_reach_equally_far_back_after_a_restore") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    TINY.write(dir.path());
    let options = EngineOptions::default().slots(2).chunk(1024);
    let engine = Engine::load(&gpu(), Checkpoint::open(dir.path()).unwrap(), options, &mut |_| {}).unwrap();
    let far = warm(8).repeat_last_n(4096).logit_bias(vec![]).frequency_penalty(0.01);
    let mut session = engine.session(far).unwrap();
    session.keep_ids(true).unwrap();
    let prompt: Vec<u32> = (0..9001u32).map(|i| i.wrapping_mul(2_654_435_761) >> 16).map(|i| i % 11).collect();
    session.feed(&prompt).unwrap();
    let snapshot = session.snapshot().unwrap();
    assert_eq!(snapshot.recent().len(), 4096);
    let mut other = engine.session(Sampling::GREEDY).unwrap();
    other.restore(&snapshot).unwrap();
    // More tokens than the session's window for penalties.
    let answer = more(&mut session, 8300);
    assert_eq!(more(&mut other, 300), answer[..300]);
    more(&mut other, 8000);
    assert_eq!(other.snapshot().unwrap(), session.snapshot().unwrap());
    assert_eq!(session.ids().unwrap().len(), 9001 + 8300);
    assert!(session.ids().unwrap().ends_with(&answer));
    // Negative control: a shorter penalty window gives other tokens.
    other.restore(&snapshot).unwrap();
    other.set_sampling(snapshot.sampling().clone().repeat_last_n(4000)).unwrap();
    assert_ne!(more(&mut other, 300), answer[..300]);
}

#[test]
fn an_incomplete_character_is_completed_after_a_restore() {
    if no_gpu("an_incomplete_character_is_completed_after_a_restore") {
        return;
    }
    let engine = tiny_chat(&gpu());
    let tokenizer = engine.checkpoint().tokenizer().unwrap();
    let bytes = "🦀".bytes();
    let of_byte =
        |byte: u8| (0..2048).find(|id| tokenizer.bytes(*id) == Some(&[byte])).expect("every byte has a token");
    let ids: Vec<u32> = bytes.map(of_byte).collect();
    let mut session = engine.session(Sampling::GREEDY).unwrap();
    session.feed(&[300]).unwrap();
    let say = |session: &mut Session, ids: &[u32]| -> String {
        let mut text = String::new();
        for id in ids {
            session.set_sampling(Sampling::GREEDY.logit_bias(vec![(*id, 1e4)])).unwrap();
            let answer = session.resume(&AnswerOptions::tokens(1)).unwrap();
            text += &answer.collect::<Result<String, _>>().unwrap();
        }
        text
    };
    assert_eq!(say(&mut session, &ids[..2]), "");
    let snapshot = session.snapshot().unwrap();
    assert_eq!(snapshot.unfinished(), &"🦀".as_bytes()[..2]);
    let mut other = engine.session(Sampling::GREEDY).unwrap();
    other.restore(&Snapshot::from_bytes("x", &snapshot.to_bytes().unwrap()).unwrap()).unwrap();
    assert_eq!(say(&mut other, &ids[2..]), "🦀");
    assert_eq!(say(&mut session, &ids[2..]), "🦀");
}
