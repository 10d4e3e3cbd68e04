//! A loaded model that advances many slots at once; sessions hold a handle to it.

use super::checkpoint::Checkpoint;
use super::departures::Departures;
use super::prefix::PrefixCache;
use super::sampler::Sampling;
use super::session::Session;
use super::snapshot::Origin;
use super::states::StateStore;
use super::stepper::{Counts, Stepper, Token};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Forward, ForwardOptions, Progress};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::MutexGuard as StepperGuard;

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
    /// Fair: whoever waited longest comes next, so that a fast session cannot keep the others from taking their tokens. It is
    /// held while a turn waits for the device.
    stepper: tokio::sync::Mutex<Stepper>,
    departures: Departures,
    counts: Arc<Mutex<Counts>>,
    states: StateStore,
    prefixes: Mutex<PrefixCache>,
}

impl Engine {
    /// Uploads a checkpoint's weights and gets ready; `progress` is called after each piece.
    pub async fn load_async(
        gpu: &Gpu,
        checkpoint: Checkpoint,
        options: EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let tensors = checkpoint.tensors()?;
        let forward = Forward::load_async(gpu, checkpoint.config(), &tensors, options, progress).await?;
        drop(tensors);
        let mut bias = vec![0.0; checkpoint.config().vocab];
        for id in checkpoint.ids_without_token() {
            bias[id as usize] = f32::NEG_INFINITY;
        }
        let states = StateStore::new(&forward);
        let prefixes = Mutex::new(PrefixCache::new(states.clone(), forward.chunk()));
        let counts = Arc::default();
        let stepper = Stepper::new(forward, options.slots, Arc::clone(&counts));
        let shared = Shared {
            checkpoint,
            options,
            bias,
            gpu: Mutex::new(gpu.clone()),
            origin: Mutex::new(None),
            stepper: tokio::sync::Mutex::new(stepper),
            departures: Departures::default(),
            counts,
            states,
            prefixes,
        };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// The checkpoint it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
    }

    /// What its snapshots are made with.
    pub(super) async fn origin(&self) -> Result<Origin> {
        if let Some(origin) = &*self.shared.origin.lock() {
            return Ok(origin.clone());
        }
        let mut stepper = self.stepper().await;
        let forward = stepper.at_rest().await?;
        let origin = Origin::of(&self.shared.checkpoint, self.shared.options.weights, forward)?;
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
    pub async fn recover_async(&self, progress: &mut dyn FnMut(Progress)) -> Result<bool> {
        self.recover_with(async |lost: &Gpu| lost.reopen_async().await, progress).await
    }

    /// [`Engine::recover_async`] on a device that the application has opened.
    pub async fn recover_on_async(&self, gpu: &Gpu, progress: &mut dyn FnMut(Progress)) -> Result<bool> {
        self.recover_with(async |_: &Gpu| Ok(gpu.clone()), progress).await
    }

    async fn recover_with(
        &self,
        open: impl AsyncFnOnce(&Gpu) -> Result<Gpu>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<bool> {
        let mut stepper = self.stepper().await;
        let lost = self.gpu();
        // A device may be lost and nobody have heard of it yet.
        if let Err(reason) = lost.check().and_then(|()| lost.flush()) {
            // Before another is opened: the driver may still count the memory.
            stepper.lose(&reason);
            self.states().lose();
        } else if stepper.has_device() {
            return Ok(false);
        }
        let gpu = open(&lost).await?;
        let (checkpoint, options) = (&self.shared.checkpoint, self.shared.options);
        let tensors = checkpoint.tensors()?;
        let forward = Forward::load_async(&gpu, checkpoint.config(), &tensors, options, progress).await?;
        *self.shared.origin.lock() = None;
        *self.shared.gpu.lock() = gpu;
        stepper.adopt(forward);
        Ok(true)
    }

    /// What its steps have done so far.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.lock()
    }

    /// A new conversation, in a free slot.
    pub async fn session_async(&self, sampling: Sampling) -> Result<Session> {
        let slot = self.stepper().await.take_slot()?;
        // From here on dropping the session frees the slot.
        let session = Session::new(self.clone(), slot, sampling);
        drop(session.schedule().await?);
        Ok(session)
    }

    /// Sets how a slot's tokens are chosen from the next step on.
    pub(super) async fn set_sampling(&self, stepper: &mut Stepper, slot: usize, sampling: &Sampling) -> Result<()> {
        let rules = sampling.rules(self.shared.bias.len())?;
        let mut bias = self.shared.bias.clone();
        for (id, value) in &sampling.logit_bias {
            bias[*id as usize] += value;
        }
        let forward = stepper.at_rest().await?;
        forward.set_rules(slot, rules)?;
        forward.set_bias(slot, &bias)
    }

    /// The slots, once nobody else uses them and what answers and sessions left behind is done.
    pub(super) async fn stepper(&self) -> StepperGuard<'_, Stepper> {
        let mut stepper = self.shared.stepper.lock().await;
        self.see_off(&mut stepper).await;
        stepper
    }

    pub(super) fn departures(&self) -> &Departures {
        &self.shared.departures
    }

    /// [`Engine::stepper`], where nobody uses the slots just now.
    pub(super) fn try_stepper(&self) -> Option<StepperGuard<'_, Stepper>> {
        self.shared.stepper.try_lock().ok()
    }

    pub(super) fn states(&self) -> &StateStore {
        &self.shared.states
    }

    pub(super) fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        self.shared.prefixes.lock()
    }

    /// Feeds tokens to a slot, chunk by chunk, in turn with what other sessions want. What was fed before it was cancelled or
    /// failed stays fed; the slot's position tells.
    pub(super) async fn feed<'a>(
        &'a self,
        mut stepper: StepperGuard<'a, Stepper>,
        slot: usize,
        ids: &[u32],
        cancelled: &AtomicBool,
    ) -> Result<()> {
        stepper.begin_feed(slot, ids)?;
        loop {
            drop(stepper); // whoever waited longest comes next
            stepper = self.stepper().await;
            if let Some(outcome) = stepper.fed(slot) {
                return outcome;
            }
            if cancelled.swap(false, Ordering::Relaxed) {
                stepper.stop_feed(slot);
                return Err(Error::Cancelled);
            }
            stepper.turn().await;
        }
    }

    /// Starts to choose tokens after those that a slot has consumed, and waits for the first, which is not taken yet. See
    /// [`Stepper::begin`].
    pub(super) async fn begin<'a>(
        &'a self,
        mut stepper: StepperGuard<'a, Stepper>,
        slot: usize,
        recent: (&[u32], usize),
        with_logits: bool,
    ) -> Result<()> {
        stepper.begin(slot, recent, with_logits).await?;
        loop {
            drop(stepper);
            stepper = self.stepper().await;
            if let Some(outcome) = stepper.peek(slot) {
                return outcome;
            }
            stepper.turn().await;
        }
    }

    /// A slot's next token, once it is there.
    pub(super) async fn next(&self, slot: usize) -> Result<Token> {
        loop {
            let mut stepper = self.stepper().await;
            if let Some(token) = stepper.next(slot) {
                return token;
            }
            stepper.turn().await;
        }
    }
}
