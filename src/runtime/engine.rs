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
use crate::model::{Forward, ForwardOptions, Progress};
use parking_lot::{FairMutex, FairMutexGuard, Mutex, MutexGuard};
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
    options: EngineOptions,
    bias: Vec<f32>,
    gpu: Mutex<Gpu>,
    /// What its snapshots are made with on this device, once it was asked for.
    origin: Mutex<Option<Origin>>,
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
        let (gpu, origin) = (Mutex::new(gpu.clone()), Mutex::new(None));
        let shared = Shared { checkpoint, options, bias, gpu, origin, stepper, states, prefixes };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// The checkpoint it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
    }

    /// What its snapshots are made with.
    pub(super) fn origin(&self) -> Result<Origin> {
        if let Some(origin) = &*self.shared.origin.lock() {
            return Ok(origin.clone());
        }
        let mut stepper = self.stepper();
        let origin = Origin::of(&self.shared.checkpoint, self.shared.options.weights, stepper.at_rest()?)?;
        Ok(self.shared.origin.lock().insert(origin).clone())
    }

    /// The device it runs on: another one after [`Engine::recover`].
    pub fn gpu(&self) -> Gpu {
        self.shared.gpu.lock().clone()
    }

    /// Opens the device again after [`Error::DeviceLost`], or the best that is left where it is gone, and loads the model anew.
    /// Does nothing where the device works, and gives whether it had to do something. `progress` is called after each piece of
    /// the weights.
    ///
    /// Sessions go on where they were: each has its state made again when it is used next, from what it keeps on the host,
    /// bit for bit where the adapter is the same. An answer that was under way has ended with the error;
    /// [`Session::resume`] goes on with it. States kept on the device for [`Session::undo`] and the like are gone: their text
    /// is read again.
    pub fn recover(&self, progress: &mut dyn FnMut(Progress)) -> Result<bool> {
        self.recover_with(Gpu::reopen, progress)
    }

    /// [`Engine::recover`] on a device that the application has opened.
    pub fn recover_on(&self, gpu: &Gpu, progress: &mut dyn FnMut(Progress)) -> Result<bool> {
        self.recover_with(|_| Ok(gpu.clone()), progress)
    }

    fn recover_with(&self, open: impl FnOnce(&Gpu) -> Result<Gpu>, progress: &mut dyn FnMut(Progress)) -> Result<bool> {
        let mut stepper = self.stepper();
        let lost = self.gpu();
        // A device may be lost and nobody have heard of it yet.
        if let Err(reason) = lost.check().and_then(|()| lost.flush()) {
            // Before another is opened: the driver may still count the memory.
            stepper.lose(&reason);
            self.states().lose();
        } else if stepper.has_device() {
            return Ok(false);
        }
        let gpu = open(&lost)?;
        let (checkpoint, options) = (&self.shared.checkpoint, self.shared.options);
        let forward = Forward::load(&gpu, checkpoint.config(), &checkpoint.tensors()?, options, progress)?;
        self.states().adopt(&gpu);
        *self.shared.origin.lock() = None;
        *self.shared.gpu.lock() = gpu;
        stepper.adopt(forward);
        Ok(true)
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
        drop(session.schedule()?);
        Ok(session)
    }

    /// Sets how a slot's tokens are chosen from the next step on.
    pub(super) fn set_sampling(&self, stepper: &mut Stepper, slot: usize, sampling: &Sampling) -> Result<()> {
        let rules = sampling.rules(self.shared.bias.len())?;
        let mut bias = self.shared.bias.clone();
        for (id, value) in &sampling.logit_bias {
            bias[*id as usize] += value;
        }
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
    pub(super) fn feed<'a>(
        &'a self,
        mut stepper: FairMutexGuard<'a, Stepper>,
        slot: usize,
        ids: &[u32],
        cancelled: &AtomicBool,
    ) -> Result<()> {
        stepper.begin_feed(slot, ids)?;
        loop {
            drop(stepper); // whoever waited longest comes next
            stepper = self.stepper();
            if let Some(outcome) = stepper.fed(slot) {
                return outcome;
            }
            if cancelled.swap(false, Ordering::Relaxed) {
                stepper.stop_feed(slot);
                return Err(Error::Cancelled);
            }
            stepper.turn();
        }
    }

    /// Starts to choose tokens after those that a slot has consumed, and waits for the first, which is not taken yet. See
    /// [`Stepper::begin`].
    pub(super) fn begin<'a>(
        &'a self,
        mut stepper: FairMutexGuard<'a, Stepper>,
        slot: usize,
        recent: (&[u32], usize),
        with_logits: bool,
    ) -> Result<()> {
        stepper.begin(slot, recent, with_logits)?;
        loop {
            drop(stepper);
            stepper = self.stepper();
            if let Some(outcome) = stepper.peek(slot) {
                return outcome;
            }
            stepper.turn();
        }
    }

    /// A slot's next token, once it is there.
    pub(super) fn next(&self, slot: usize) -> Result<Token> {
        loop {
            let mut stepper = self.stepper();
            if let Some(token) = stepper.next(slot) {
                return token;
            }
            stepper.turn();
        }
    }
}
