//! A loaded model that advances many slots at once; sessions hold a handle to it.

use super::checkpoint::Checkpoint;
use super::sampler::Sampling;
use super::session::Session;
use super::stepper::{Counts, Stepper, Token};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Forward, ForwardOptions, Progress};
use parking_lot::{FairMutex, FairMutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Whoever waited longest comes next: a fast session cannot keep the others from taking their tokens.
    stepper: FairMutex<Stepper>,
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
        let stepper = FairMutex::new(Stepper::new(forward, options.slots));
        Ok(Engine { shared: Arc::new(Shared { checkpoint, gpu: gpu.clone(), bias, stepper }) })
    }

    /// The checkpoint it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
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
