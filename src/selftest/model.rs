//! A small model: against the CPU reference, and against itself by other ways that must give the same.

use super::check::{Check, Outcome, Section};
use super::report::Report;
use super::{Event, Run};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::case::{Mismatch, Reached, Tolerance, compare};
use crate::model::reference::Reference;
use crate::model::{Forward, ForwardOptions, Logits, WeightOptions, Weights};
use crate::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling, Session, Snapshot};
use std::sync::Arc;

/// Logits of f32 arithmetic over a few layers. The worst measured for tiny-chat is in `reports/`.
const LOGITS: Tolerance = Tolerance { nmse: 1e-9, abs: 3e-4, rel: 0.0 };
/// Tokens of the prompt, whose ids any model has.
const PROMPT: usize = 24;
/// Conversations of a batch.
const SLOTS: usize = 3;
/// Tokens generated before and after a snapshot.
const HALF: usize = 12;
/// A question to the model that ships, and its answer.
const GOLDEN: [&str; 2] = ["What is 3 plus 4?", "3 plus 4 is 7."];

/// The outer result says whether it ran, the inner what came of it.
type Checked = Result<Result<Reached, String>>;

/// What is checked, and how.
type ModelCheck = (&'static str, fn(&Model<'_>) -> Checked);

const CHECKS: [ModelCheck; 7] = [
    ("prefill equals the reference", |model| model.against_reference(1, PROMPT)),
    ("four segments equal the reference", |model| model.against_reference(4, PROMPT)),
    ("decoding equals the reference", |model| model.decoding()),
    ("chunks of 1, 3 and 24 give the same bits", |model| model.chunks()),
    ("a batch gives the bits of single runs", |model| model.batch()),
    ("a restored state gives the bits of an uninterrupted run", |model| model.snapshot()),
    ("a greedy answer is the golden text", |model| model.golden_text()),
];

pub(super) fn test(
    run: &Run<'_>,
    open: &dyn Fn() -> Result<Checkpoint>,
    report: &mut Report,
    see: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let wanted: Vec<_> = CHECKS.into_iter().filter(|(name, _)| run.options.wants(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let checkpoint = open()?;
    let model = Model::new(run.gpu, &checkpoint, open)?;
    for (name, check) in wanted {
        report.group((run, Section::Model, name), see, |_| {
            vec![match check(&model) {
                Ok(Ok(reached)) => Check { reached, ..Check::new("tiny-chat", Outcome::Passed) },
                Ok(Err(fault)) => Check::new("tiny-chat", Outcome::Failed(fault)),
                Err(error) => Check::new("tiny-chat", Outcome::Failed(error.to_string())),
            }]
        });
    }
    Ok(())
}

/// The checks that the options want.
pub(super) fn names(run: &Run<'_>) -> Vec<String> {
    let wanted = CHECKS.iter().filter(|(name, _)| run.options.wants(name));
    wanted.map(|(name, _)| format!("model: {name}")).collect()
}

/// A model, and the expected logits of its prompt.
struct Model<'a> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    open: &'a dyn Fn() -> Result<Checkpoint>,
    weights: Arc<Weights>,
    ids: Vec<u32>,
    expected: Vec<Option<f64>>,
}

/// The result of a comparison, with its fault as text.
fn told(compared: Result<Reached, Mismatch>) -> Checked {
    Ok(compared.map_err(|fault| fault.to_string()))
}

fn as_expected(logits: &[f32]) -> Vec<Option<f64>> {
    logits.iter().map(|v| Some(f64::from(*v))).collect()
}

impl<'a> Model<'a> {
    fn new(gpu: &'a Gpu, checkpoint: &'a Checkpoint, open: &'a dyn Fn() -> Result<Checkpoint>) -> Result<Self> {
        let tensors = checkpoint.tensors()?;
        let ids: Vec<u32> = (0..PROMPT).map(|i| ((i * 37 + 5) % checkpoint.config().vocab) as u32).collect();
        let reference = Reference::new(checkpoint.config(), &tensors);
        let expected = reference.forward(&ids, &mut reference.start(), |_, _| {})?;
        let weights = Arc::new(Weights::load(gpu, &tensors, WeightOptions::default(), &mut |_| {})?);
        Ok(Model { gpu, checkpoint, open, weights, ids, expected: expected.into_iter().map(Some).collect() })
    }

    fn forward(&self, slots: usize, chunk: usize, segments: usize) -> Result<Forward> {
        let options = ForwardOptions { slots, chunk, segments, ..Default::default() };
        Forward::new(self.gpu, self.checkpoint.config(), self.weights.clone(), options)
    }

    fn prefilled(&self, chunk: usize, segments: usize) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        let see = |rows: &[f32]| {
            logits.extend_from_slice(rows);
            Ok(())
        };
        pollster::block_on(self.forward(1, chunk, segments)?.prefill_logits(0, &self.ids, Logits::All, see))?;
        Ok(logits)
    }

    fn against_reference(&self, segments: usize, chunk: usize) -> Checked {
        told(compare("logits", &self.prefilled(chunk, segments)?, &self.expected, LOGITS))
    }

    /// The logits of `slots` after each of some ids, one step for all of them.
    fn steps(
        &self,
        forward: &mut Forward,
        slots: &[usize],
        ids: impl Fn(usize, usize) -> u32,
    ) -> Result<Vec<Vec<f32>>> {
        let mut logits = vec![Vec::new(); slots.len()];
        for step in 0..PROMPT {
            for slot in slots {
                forward.set_next(*slot, ids(*slot, step))?;
            }
            forward.set_decoding(slots)?;
            let step = forward.step()?;
            pollster::block_on(forward.chosen(step))?;
            for (slot, logits) in slots.iter().zip(&mut logits) {
                logits.extend(pollster::block_on(forward.logits(*slot, 0))?);
            }
        }
        Ok(logits)
    }

    fn decoding(&self) -> Checked {
        let logits = self.steps(&mut self.forward(1, 1, 1)?, &[0], |_, step| self.ids[step])?;
        told(compare("logits", &logits[0], &self.expected, LOGITS))
    }

    fn chunks(&self) -> Checked {
        let whole = as_expected(&self.prefilled(PROMPT, 1)?);
        let mut worst = Reached::default();
        for chunk in [1, 3] {
            match compare("logits", &self.prefilled(chunk, 1)?, &whole, Tolerance::EXACT) {
                Ok(reached) => worst = worst.worst(reached),
                fault => return told(fault),
            }
        }
        told(Ok(worst))
    }

    fn batch(&self) -> Checked {
        // Each conversation begins elsewhere in the prompt.
        let id = |slot: usize, step: usize| self.ids[(step + 7 * slot) % PROMPT];
        let slots: Vec<usize> = (0..SLOTS).collect();
        let together = self.steps(&mut self.forward(SLOTS, 1, 1)?, &slots, id)?;
        let mut worst = Reached::default();
        for (slot, together) in slots.into_iter().zip(together) {
            let alone = self.steps(&mut self.forward(SLOTS, 1, 1)?, &[slot], id)?;
            match compare(&format!("logits of slot {slot}"), &together, &as_expected(&alone[0]), Tolerance::EXACT) {
                Ok(reached) => worst = worst.worst(reached),
                fault => return told(fault),
            }
        }
        told(Ok(worst))
    }

    fn session(&self) -> Result<Session> {
        let engine =
            Engine::load(self.gpu, (self.open)()?, EngineOptions::default().slots(2).chunk(PROMPT), &mut |_| {})?;
        engine.session(Sampling::GREEDY.temperature(1.0).seed(5))
    }

    fn snapshot(&self) -> Checked {
        let mut whole = self.session()?;
        let mut expected = given(&mut whole, &self.ids, HALF)?;
        let bytes = whole.snapshot()?.to_bytes()?;
        expected.extend(given(&mut whole, &[], HALF)?);
        let mut other = whole.engine().session(Sampling::GREEDY)?;
        other.restore(&Snapshot::from_bytes("self-test", &bytes)?)?;
        let continued = given(&mut other, &[], HALF)?;
        Ok(match expected[HALF..] == continued {
            true => Ok(Reached::default()),
            false => Err(format!("uninterrupted it gives {:?}, restored {continued:?}", &expected[HALF..])),
        })
    }

    fn golden_text(&self) -> Checked {
        let mut session = self.session()?;
        session.set_sampling(Sampling::GREEDY)?;
        let pieces = session.send(GOLDEN[0], &AnswerOptions::tokens(32))?.collect::<Result<Vec<String>, Error>>()?;
        let text = pieces.concat();
        Ok(if text.trim() == GOLDEN[1] { Ok(Reached::default()) } else { Err(format!("the answer is {text:?}")) })
    }
}

/// The ids, and the bits of their log-probabilities, of some tokens generated after `ids`.
fn given(session: &mut Session, ids: &[u32], tokens: usize) -> Result<Vec<(u32, u64)>> {
    let mut generation = session.generate(ids, &AnswerOptions::tokens(tokens).logprobs(0))?;
    let mut given = Vec::new();
    while let Some(id) = generation.next_id()? {
        given.push((id, generation.logprobs().map_or(0, |logprobs| logprobs.chosen.to_bits())));
    }
    Ok(given)
}
