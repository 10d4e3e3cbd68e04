//! A loaded model that advances many slots at once; sessions hold a handle to it.

use super::checkpoint::Checkpoint;
use super::prefix::PrefixCache;
use super::sampler::Sampling;
use super::session::Session;
use super::snapshot::Origin;
use super::states::StateStore;
use super::stepper::{Counts, Stepper, Token};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Forward, ForwardOptions, Progress, Recipe};
use parking_lot::{FairMutex, FairMutexGuard, Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// How an engine is laid out.
pub type EngineOptions = ForwardOptions;

/// A model on a device, with room for some conversations. Clones are handles to the same one; all are `Send`.
///
/// Sessions that are used from several threads, or in turn from one, share their steps: whoever waits for a token runs
/// the next step for all that can take part.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    checkpoint: Checkpoint,
    gpu: Gpu,
    bias: Vec<f32>,
    weights: Recipe,
    /// What its snapshots are made with, once it was asked for.
    origin: OnceLock<Origin>,
    /// Whoever waited longest comes next: a fast session cannot keep the others from taking their tokens.
    stepper: FairMutex<Stepper>,
    states: StateStore,
    prefixes: Mutex<PrefixCache>,
}

impl Engine {
    /// Uploads a checkpoint's weights and gets ready; `progress` is called after each piece.
    pub fn load(
        gpu: &Gpu,
        checkpoint: Checkpoint,
        options: EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let forward = Forward::load(gpu, checkpoint.config(), &checkpoint.tensors()?, options, progress)?;
        let mut bias = vec![0.0; checkpoint.config().vocab];
        for id in checkpoint.ids_without_token() {
            bias[id as usize] = f32::NEG_INFINITY;
        }
        let states = StateStore::new(&forward);
        let prefixes = Mutex::new(PrefixCache::new(states.clone(), forward.chunk()));
        let stepper = FairMutex::new(Stepper::new(forward, options.slots));
        let (gpu, weights, origin) = (gpu.clone(), options.weights, OnceLock::new());
        let shared = Shared { checkpoint, gpu, bias, weights, origin, stepper, states, prefixes };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// The checkpoint it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
    }

    /// What its snapshots are made with.
    pub(super) fn origin(&self) -> Result<&Origin> {
        if let Some(origin) = self.shared.origin.get() {
            return Ok(origin);
        }
        let origin = Origin::of(&self.shared.checkpoint, self.shared.weights, self.stepper().at_rest()?)?;
        Ok(self.shared.origin.get_or_init(|| origin))
    }

    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.shared.gpu
    }

    /// What its steps have done so far.
    pub fn counts(&self) -> Counts {
        self.stepper().counts()
    }

    /// A new conversation, in a free slot.
    pub fn session(&self, sampling: Sampling) -> Result<Session> {
        let slot = self.stepper().take_slot()?;
        // From here on dropping the session frees the slot.
        let session = Session::new(self.clone(), slot, sampling);
        self.set_sampling(slot, session.sampling())?;
        self.stepper().reset(slot)?;
        Ok(session)
    }

    /// Sets how a slot's tokens are chosen from the next step on.
    pub(super) fn set_sampling(&self, slot: usize, sampling: &Sampling) -> Result<()> {
        let rules = sampling.rules(self.shared.bias.len())?;
        let mut bias = self.shared.bias.clone();
        for (id, value) in &sampling.logit_bias {
            bias[*id as usize] += value;
        }
        let mut stepper = self.stepper();
        let forward = stepper.at_rest()?;
        forward.set_rules(slot, rules)?;
        forward.set_bias(slot, &bias)
    }

    pub(super) fn stepper(&self) -> FairMutexGuard<'_, Stepper> {
        self.shared.stepper.lock()
    }

    pub(super) fn states(&self) -> &StateStore {
        &self.shared.states
    }

    pub(super) fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        self.shared.prefixes.lock()
    }

    /// Feeds tokens to a slot, chunk by chunk, in turn with what other sessions want. What was fed before it was cancelled or
    /// failed stays fed; the slot's position tells.
    pub(super) fn feed(&self, slot: usize, ids: &[u32], cancelled: &AtomicBool) -> Result<()> {
        self.stepper().begin_feed(slot, ids)?;
        loop {
            let mut stepper = self.stepper();
            if stepper.is_fed(slot) {
                return Ok(());
            }
            if cancelled.swap(false, Ordering::Relaxed) {
                stepper.stop_feed(slot);
                return Err(Error::Cancelled);
            }
            if let Err(error) = stepper.turn() {
                stepper.stop_feed(slot);
                return Err(error);
            }
        }
    }

    /// Starts to choose tokens after those that a slot has consumed, and waits for the first, which is not taken yet. See
    /// [`Stepper::begin`].
    pub(super) fn begin(&self, slot: usize, recent: (&[u32], usize), with_logits: bool) -> Result<()> {
        self.stepper().begin(slot, recent, with_logits)?;
        loop {
            let mut stepper = self.stepper();
            if let Some(outcome) = stepper.peek(slot) {
                return outcome;
            }
            stepper.turn()?;
        }
    }

    /// A slot's next token, once it is there.
    pub(super) fn next(&self, slot: usize) -> Result<Token> {
        loop {
            let mut stepper = self.stepper();
            if let Some(token) = stepper.next(slot) {
                return token;
            }
            stepper.turn()?;
        }
    }

    /// Ends a slot's answer at exactly `position`.
    pub(super) fn finish(&self, slot: usize, position: u64) -> Result<()> {
        loop {
            let mut stepper = self.stepper();
            if stepper.finish(slot, position) {
                return Ok(());
            }
            stepper.turn()?;
        }
    }
}
