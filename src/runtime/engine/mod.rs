//! The engine: a loaded model that advances many slots at once. Sessions hold a handle to it.

mod departures;

pub(super) use departures::{Departure, End, Prefix};

use super::checkpoint::Checkpoint;
use super::prefix::{PrefixBudget, PrefixCache, PrefixStats};
use super::sampler::Sampling;
use super::scheduler::{Counts, Scheduler, Start, Token};
use super::snapshot::Origin;
use super::states::{StateBudget, StateStats, StateStore};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Forward, ForwardOptions, Progress};
use departures::Departures;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::MutexGuard as SchedulerGuard;

/// Options of an engine: slots, chunk size, arithmetic, weight formats, memory.
pub type EngineOptions = ForwardOptions;

/// A model on a device with slots for a fixed number of sessions. Clones are handles to the same engine; all are `Send`.
///
/// Sessions share decode steps, whether they are used from several threads or in turn from one: whoever waits for a token runs
/// the next step for every slot that is ready.
///
/// ```no_run
/// # fn f(gpu: &peregrine::Gpu, checkpoint: peregrine::Checkpoint) -> peregrine::Result<()> {
/// use peregrine::{Engine, EngineOptions, Sampling};
/// let options = EngineOptions::default().slots(2);
/// let engine = Engine::load(gpu, checkpoint, options, &mut |progress| {
///     eprint!("\r{} of {} bytes", progress.done, progress.total);
/// })?;
/// let first = engine.session(Sampling::GREEDY)?;
/// let second = engine.session(Sampling::GREEDY.temperature(0.8).seed(1))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    checkpoint: Checkpoint,
    options: EngineOptions,
    bias: Vec<f32>,
    gpu: Mutex<Gpu>,
    /// The origin of snapshots taken on this device, computed on first use.
    origin: Mutex<Option<Origin>>,
    /// Locked in FIFO order, so that a fast session cannot starve the others. Held while a turn waits for the device.
    scheduler: tokio::sync::Mutex<Scheduler>,
    departures: Departures,
    counts: Arc<Mutex<Counts>>,
    states: StateStore,
    prefixes: Mutex<PrefixCache>,
}

impl Engine {
    /// Uploads a checkpoint's weights and compiles the kernels. `progress` is called after each upload.
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
        let scheduler = Scheduler::new(forward, options.slots, Arc::clone(&counts));
        let shared = Shared {
            checkpoint,
            options,
            bias,
            gpu: Mutex::new(gpu.clone()),
            origin: Mutex::new(None),
            scheduler: tokio::sync::Mutex::new(scheduler),
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

    /// The origin of its snapshots: model, weights, arithmetic, adapter.
    pub(super) async fn origin(&self) -> Result<Origin> {
        if let Some(origin) = &*self.shared.origin.lock() {
            return Ok(origin.clone());
        }
        let mut scheduler = self.scheduler().await;
        let forward = scheduler.at_rest().await?;
        let origin = Origin::of(&self.shared.checkpoint, self.shared.options.weights, forward)?;
        Ok(self.shared.origin.lock().insert(origin).clone())
    }

    /// The device it runs on; another one after [`Engine::recover_async`].
    pub fn gpu(&self) -> Gpu {
        self.shared.gpu.lock().clone()
    }

    /// Reopens the device after [`Error::DeviceLost`] and reloads the model; if the adapter is gone, opens the best one left.
    /// Returns false, and does nothing, if the device works. `progress` is called after each upload.
    ///
    /// Sessions continue where they were. Each recomputes its state on next use from its backup on the host, bit for bit on the
    /// same adapter. An answer in progress ended with the error; [`Prompt::Resume`](super::Prompt::Resume) continues it. Kept
    /// states on the device (for undo, marks and the prefix cache) are lost: their text is read again.
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
        let mut scheduler = self.scheduler().await;
        let lost = self.gpu();
        // The loss may not have been noticed yet.
        if let Err(reason) = lost.check().and_then(|()| lost.flush()) {
            // Before another device is opened: the driver may still count the memory.
            scheduler.lose(&reason);
            self.states().lose();
        } else if scheduler.has_device() {
            return Ok(false);
        }
        let gpu = open(&lost).await?;
        let (checkpoint, options) = (&self.shared.checkpoint, self.shared.options);
        let tensors = checkpoint.tensors()?;
        let forward = Forward::load_async(&gpu, checkpoint.config(), &tensors, options, progress).await?;
        *self.shared.origin.lock() = None;
        *self.shared.gpu.lock() = gpu;
        scheduler.adopt(forward);
        Ok(true)
    }

    /// Number of slots: sessions that it can have at a time.
    pub fn slots(&self) -> usize {
        self.shared.options.slots
    }

    /// Most tokens of a prompt that it reads in one step.
    pub fn chunk(&self) -> usize {
        self.shared.prefixes.lock().chunk
    }

    /// Counts of turns, chunks and steps so far.
    pub fn counts(&self) -> Counts {
        *self.shared.counts.lock()
    }

    /// Sets how much memory kept states may take, those of all sessions and of the prefix cache together; the default is
    /// [`StateBudget::default`]. What exceeds it is spilled or dropped at once.
    pub async fn set_state_budget_async(&self, budget: StateBudget) -> Result<()> {
        let scheduler = self.scheduler().await;
        self.states().set_budget(scheduler.gpu().as_ref(), budget).await
    }

    /// Memory of kept states, and counts of moves.
    pub fn state_stats(&self) -> StateStats {
        self.states().stats()
    }

    /// Sets the budget of the prefix cache; there is none until this is called. A session whose text shares a prefix with an
    /// earlier one, such as a system prompt or a document, then starts from the state after it.
    pub fn set_prefix_cache(&self, budget: PrefixBudget) {
        self.prefixes().set_budget(budget);
    }

    /// Contents and hit counts of the prefix cache.
    pub fn prefix_stats(&self) -> PrefixStats {
        self.prefixes().stats()
    }

    /// Sets how a slot's tokens are chosen from the next step on.
    pub(super) async fn set_sampling(&self, scheduler: &mut Scheduler, slot: usize, sampling: &Sampling) -> Result<()> {
        let rules = sampling.rules(self.shared.bias.len())?;
        let forward = scheduler.at_rest().await?;
        forward.set_rules(slot, rules)?;
        forward.set_bias(slot, &self.bias(sampling))
    }

    /// The bias `[V]` of a slot without a grammar.
    pub(super) fn bias(&self, sampling: &Sampling) -> Vec<f32> {
        let mut bias = self.shared.bias.clone();
        for (id, value) in &sampling.logit_bias {
            bias[*id as usize] += value;
        }
        bias
    }

    /// Locks the slots and first does what ended answers and sessions left to be done.
    pub(super) async fn scheduler(&self) -> SchedulerGuard<'_, Scheduler> {
        let mut scheduler = self.shared.scheduler.lock().await;
        self.see_off(&mut scheduler).await;
        scheduler
    }

    pub(super) fn states(&self) -> &StateStore {
        &self.shared.states
    }

    pub(super) fn prefixes(&self) -> MutexGuard<'_, PrefixCache> {
        self.shared.prefixes.lock()
    }

    /// Feeds tokens to a slot chunk by chunk, in turn with other sessions. After a cancel or an error, the chunks fed so far stay
    /// fed; the slot's position tells how many.
    pub(super) async fn feed<'a>(
        &'a self,
        mut scheduler: SchedulerGuard<'a, Scheduler>,
        slot: usize,
        ids: &[u32],
        cancelled: &AtomicBool,
    ) -> Result<()> {
        scheduler.begin_feed(slot, ids)?;
        loop {
            drop(scheduler); // the longest waiter is next
            scheduler = self.scheduler().await;
            if let Some(outcome) = scheduler.fed(slot) {
                return outcome;
            }
            if cancelled.swap(false, Ordering::Relaxed) {
                scheduler.stop_feed(slot);
                return Err(Error::Cancelled);
            }
            scheduler.turn().await;
        }
    }

    /// Starts to generate after the tokens that a slot has consumed and waits for the first token without taking it. See
    /// [`Scheduler::begin`].
    pub(super) async fn begin<'a>(
        &'a self,
        mut scheduler: SchedulerGuard<'a, Scheduler>,
        slot: usize,
        start: Start<'_>,
    ) -> Result<()> {
        scheduler.begin(slot, start).await?;
        loop {
            drop(scheduler);
            scheduler = self.scheduler().await;
            if let Some(outcome) = scheduler.peek(slot) {
                return outcome;
            }
            scheduler.turn().await;
        }
    }

    /// A slot's next token, chosen with `bias` `[V]` if the slot has a grammar.
    pub(super) async fn next(&self, slot: usize, bias: Option<&[f32]>) -> Result<Token> {
        let mut scheduler = self.scheduler().await;
        if let Some(bias) = bias {
            scheduler.set_bias(slot, bias)?;
        }
        loop {
            if let Some(token) = scheduler.next(slot) {
                return token;
            }
            scheduler.turn().await;
            drop(scheduler); // the longest waiter is next
            scheduler = self.scheduler().await;
        }
    }
}
