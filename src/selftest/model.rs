//! A small model: against the CPU reference, and against itself by other ways that must give the same.

use super::check::{Check, Outcome, Section};
use super::report::Report;
use super::{Event, Run};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kernels::case::{Mismatch, Reached, Tolerance, compare};
use crate::model::reference::Reference;
use crate::model::{Forward, ForwardOptions, Logits, WeightOptions, Weights};
use crate::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Prompt, Sampling, Session, Snapshot};
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

const PREFILL: &str = "prefill equals the reference";
const SEGMENTS: &str = "four segments equal the reference";
const DECODING: &str = "decoding equals the reference";
const CHUNKS: &str = "chunks of 1, 3 and 24 give the same bits";
const BATCH: &str = "a batch gives the bits of single runs";
const SNAPSHOT: &str = "a restored state gives the bits of an uninterrupted run";
const TEXT: &str = "a greedy answer is the golden text";
const CHECKS: [&str; 7] = [PREFILL, SEGMENTS, DECODING, CHUNKS, BATCH, SNAPSHOT, TEXT];

pub(super) async fn test(
    run: &Run<'_>,
    open: &dyn Fn() -> Result<Checkpoint>,
    report: &mut Report,
    see: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let wanted: Vec<_> = CHECKS.into_iter().filter(|name| run.options.wants(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let checkpoint = open()?;
    let model = Model::new(run.gpu, &checkpoint, open).await?;
    for name in wanted {
        let check = async |_: &mut Report| {
            vec![match model.check(name).await {
                Ok(Ok(reached)) => Check { reached, ..Check::new("tiny-chat", Outcome::Passed) },
                Ok(Err(fault)) => Check::new("tiny-chat", Outcome::Failed(fault)),
                Err(error) => Check::new("tiny-chat", Outcome::Failed(error.to_string())),
            }]
        };
        report.group((run, Section::Model, name), see, check).await;
    }
    Ok(())
}

/// The checks that the options want.
pub(super) fn names(run: &Run<'_>) -> Vec<String> {
    let wanted = CHECKS.iter().filter(|name| run.options.wants(name));
    wanted.map(|name| format!("model: {name}")).collect()
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
    async fn new(gpu: &'a Gpu, checkpoint: &'a Checkpoint, open: &'a dyn Fn() -> Result<Checkpoint>) -> Result<Self> {
        let tensors = checkpoint.tensors()?;
        let ids: Vec<u32> = (0..PROMPT).map(|i| ((i * 37 + 5) % checkpoint.config().vocab) as u32).collect();
        let reference = Reference::new(checkpoint.config(), &tensors);
        let expected = reference.forward(&ids, &mut reference.start(), |_, _| {})?;
        let weights = Arc::new(Weights::load(gpu, &tensors, WeightOptions::default(), &mut |_| {})?);
        Ok(Model { gpu, checkpoint, open, weights, ids, expected: expected.into_iter().map(Some).collect() })
    }

    async fn check(&self, name: &str) -> Checked {
        match name {
            PREFILL => self.against_reference(1, PROMPT).await,
            SEGMENTS => self.against_reference(4, PROMPT).await,
            DECODING => self.decoding().await,
            CHUNKS => self.chunks().await,
            BATCH => self.batch().await,
            SNAPSHOT => self.snapshot().await,
            TEXT => self.golden_text().await,
            other => unreachable!("{other} is no check"),
        }
    }

    async fn forward(&self, slots: usize, chunk: usize, segments: usize) -> Result<Forward> {
        let options = ForwardOptions { slots, chunk, segments, ..Default::default() };
        Forward::new_async(self.gpu, self.checkpoint.config(), self.weights.clone(), options).await
    }

    async fn prefilled(&self, chunk: usize, segments: usize) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        let see = |rows: &[f32]| {
            logits.extend_from_slice(rows);
            Ok(())
        };
        self.forward(1, chunk, segments).await?.prefill_logits(0, &self.ids, Logits::All, see).await?;
        Ok(logits)
    }

    async fn against_reference(&self, segments: usize, chunk: usize) -> Checked {
        told(compare("logits", &self.prefilled(chunk, segments).await?, &self.expected, LOGITS))
    }

    /// The logits of `slots` after each of some ids, one step for all of them.
    async fn steps(
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
            forward.chosen(step).await?;
            for (slot, logits) in slots.iter().zip(&mut logits) {
                logits.extend(forward.logits(*slot, 0).await?);
            }
        }
        Ok(logits)
    }

    async fn decoding(&self) -> Checked {
        let logits = self.steps(&mut self.forward(1, 1, 1).await?, &[0], |_, step| self.ids[step]).await?;
        told(compare("logits", &logits[0], &self.expected, LOGITS))
    }

    async fn chunks(&self) -> Checked {
        let whole = as_expected(&self.prefilled(PROMPT, 1).await?);
        let mut worst = Reached::default();
        for chunk in [1, 3] {
            match compare("logits", &self.prefilled(chunk, 1).await?, &whole, Tolerance::EXACT) {
                Ok(reached) => worst = worst.worst(reached),
                fault => return told(fault),
            }
        }
        told(Ok(worst))
    }

    async fn batch(&self) -> Checked {
        // Each conversation begins elsewhere in the prompt.
        let id = |slot: usize, step: usize| self.ids[(step + 7 * slot) % PROMPT];
        let slots: Vec<usize> = (0..SLOTS).collect();
        let together = self.steps(&mut self.forward(SLOTS, 1, 1).await?, &slots, id).await?;
        let mut worst = Reached::default();
        for (slot, together) in slots.into_iter().zip(together) {
            let alone = self.steps(&mut self.forward(SLOTS, 1, 1).await?, &[slot], id).await?;
            match compare(&format!("logits of slot {slot}"), &together, &as_expected(&alone[0]), Tolerance::EXACT) {
                Ok(reached) => worst = worst.worst(reached),
                fault => return told(fault),
            }
        }
        told(Ok(worst))
    }

    async fn session(&self) -> Result<Session> {
        let options = EngineOptions::default().slots(2).chunk(PROMPT);
        let engine = Engine::load_async(self.gpu, (self.open)()?, options, &mut |_| {}).await?;
        engine.session_async(Sampling::GREEDY.temperature(1.0).seed(5)).await
    }

    async fn snapshot(&self) -> Checked {
        let mut whole = self.session().await?;
        let mut expected = given(&mut whole, &self.ids, HALF).await?;
        let bytes = whole.snapshot_async().await?.to_bytes()?;
        expected.extend(given(&mut whole, &[], HALF).await?);
        let mut other = whole.engine().session_async(Sampling::GREEDY).await?;
        other.restore_async(&Snapshot::from_bytes("self-test", &bytes)?).await?;
        let continued = given(&mut other, &[], HALF).await?;
        Ok(match expected[HALF..] == continued {
            true => Ok(Reached::default()),
            false => Err(format!("uninterrupted it gives {:?}, restored {continued:?}", &expected[HALF..])),
        })
    }

    async fn golden_text(&self) -> Checked {
        let mut session = self.session().await?;
        session.set_sampling_async(Sampling::GREEDY).await?;
        let prompt = Prompt::Message(GOLDEN[0].to_owned());
        let mut answer = session.answer_async(prompt, &AnswerOptions::tokens(32)).await?;
        let mut text = String::new();
        while let Some(piece) = answer.next_async().await {
            text += &piece?;
        }
        Ok(if text.trim() == GOLDEN[1] { Ok(Reached::default()) } else { Err(format!("the answer is {text:?}")) })
    }
}

/// The ids, and the bits of their log-probabilities, of some tokens generated after `ids`.
async fn given(session: &mut Session, ids: &[u32], tokens: usize) -> Result<Vec<(u32, u64)>> {
    let mut generation = session.generate_async(ids, &AnswerOptions::tokens(tokens).logprobs(0)).await?;
    let mut given = Vec::new();
    while let Some(id) = generation.next_id_async().await? {
        given.push((id, generation.logprobs().map_or(0, |logprobs| logprobs.chosen.to_bits())));
    }
    Ok(given)
}
