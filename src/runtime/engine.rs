//! A loaded model that advances slots; sessions hold a handle to it.

use super::checkpoint::Checkpoint;
use super::sampler::Sampling;
use super::session::Session;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{Choosing, Forward, ForwardOptions, Progress, Saved};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// How an engine is laid out.
pub type EngineOptions = ForwardOptions;

/// A model on a device, with room for some conversations. Clones are handles to the same one; all are `Send`.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    checkpoint: Checkpoint,
    gpu: Gpu,
    bias: Vec<f32>,
    stepper: Mutex<Stepper>,
}

/// The part behind the lock: what is under way on the device.
pub(super) struct Stepper {
    forward: Forward,
    free: Vec<usize>,
    under_way: VecDeque<Choosing>,
    /// Tokens that have arrived for a slot and were not asked for yet.
    arrived: Vec<VecDeque<u32>>,
    /// Whose steps are being run ahead.
    running: Option<usize>,
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
        let stepper = Stepper {
            forward,
            free: (0..options.slots).rev().collect(),
            under_way: VecDeque::new(),
            arrived: vec![VecDeque::new(); options.slots],
            running: None,
        };
        let shared = Shared { checkpoint, gpu: gpu.clone(), bias, stepper: Mutex::new(stepper) };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// The checkpoint it was loaded from.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
    }

    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.shared.gpu
    }

    /// A new conversation, in a free slot.
    pub fn session(&self, sampling: Sampling) -> Result<Session> {
        let slot = {
            let mut stepper = self.stepper();
            let slots = stepper.arrived.len();
            stepper.free.pop().ok_or(Error::NoFreeSlot { slots })?
        };
        let ready = self.set_sampling(slot, &sampling).and_then(|()| self.stepper().reset(slot));
        if let Err(error) = ready {
            self.stepper().free.push(slot);
            return Err(error);
        }
        Ok(Session::new(self.clone(), slot, sampling))
    }

    /// Sets how a slot's tokens are chosen from the next step on.
    pub(super) fn set_sampling(&self, slot: usize, sampling: &Sampling) -> Result<()> {
        let rules = sampling.rules(self.shared.bias.len())?;
        let mut bias = self.shared.bias.clone();
        for (id, value) in &sampling.logit_bias {
            bias[*id as usize] += value;
        }
        let mut stepper = self.stepper();
        stepper.settle()?;
        stepper.forward.set_rules(slot, rules)?;
        stepper.forward.set_bias(slot, &bias)
    }

    pub(super) fn stepper(&self) -> MutexGuard<'_, Stepper> {
        self.shared.stepper.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn release(&self, slot: usize) {
        let mut stepper = self.stepper();
        // What fails here fails again, and is reported, at the next use of the slot.
        let _ = stepper.settle();
        stepper.arrived[slot].clear();
        stepper.free.push(slot);
    }
}

impl Stepper {
    /// Waits for all that is under way; afterwards the host knows each slot's next token.
    fn settle(&mut self) -> Result<()> {
        self.running = None;
        while let Some(choosing) = self.under_way.pop_front() {
            self.arrive(choosing)?;
        }
        Ok(())
    }

    fn arrive(&mut self, choosing: Choosing) -> Result<()> {
        let slot = choosing.slot();
        let ids = pollster::block_on(self.forward.chosen(choosing))?;
        self.arrived[slot].extend(ids);
        Ok(())
    }

    /// Tokens that a slot has consumed, those run ahead included.
    pub(super) fn position(&self, slot: usize) -> u64 {
        self.forward.position(slot)
    }

    /// Puts a slot back to before its first token.
    pub(super) fn reset(&mut self, slot: usize) -> Result<()> {
        self.settle()?;
        self.arrived[slot].clear();
        self.forward.reset(slot)
    }

    /// Feeds tokens to a slot; `fed` is told after each chunk and may stop by an error.
    pub(super) fn feed(&mut self, slot: usize, ids: &[u32], fed: impl FnMut(usize) -> Result<()>) -> Result<()> {
        self.settle()?;
        self.arrived[slot].clear();
        self.forward.prefill(slot, ids, fed)
    }

    /// Chooses the token after those that were just fed. Penalties look at the last `window` of `read`.
    pub(super) fn choose(&mut self, slot: usize, read: &[u32], window: usize) -> Result<()> {
        if window > 0 {
            self.forward.set_recent(slot, (read, self.forward.position(slot)), window)?;
        }
        let choosing = self.forward.choose_after(slot)?;
        self.arrive(choosing)
    }

    /// The slot's next token. Keeps the device busy: when it returns, the step that consumes this token is under way, unless
    /// steps cannot run ahead.
    pub(super) fn next(&mut self, slot: usize) -> Result<u32> {
        if self.running != Some(slot) {
            self.settle()?;
        }
        if self.arrived[slot].is_empty() {
            self.run(slot)?;
            while self.under_way.len() <= self.forward.run_ahead() {
                let step = self.forward.step()?;
                self.under_way.push_back(step);
            }
            let first = self.under_way.pop_front().expect("steps were just submitted");
            self.arrive(first)?;
        }
        Ok(self.arrived[slot].pop_front().expect("a token has arrived"))
    }

    /// The slot's next token and the logits it was chosen from, which only last until the next step: nothing runs ahead.
    pub(super) fn next_with_logits(&mut self, slot: usize) -> Result<(u32, Vec<f32>)> {
        self.settle()?;
        if self.arrived[slot].is_empty() {
            self.run(slot)?;
            let step = self.forward.step()?;
            self.arrive(step)?;
        }
        let logits = pollster::block_on(self.forward.last_logits())?;
        Ok((self.arrived[slot].pop_front().expect("a token has arrived"), logits))
    }

    /// Makes the slot the one that steps advance.
    fn run(&mut self, slot: usize) -> Result<()> {
        if self.running != Some(slot) {
            self.forward.set_decoding(&[slot])?;
            self.running = Some(slot);
        }
        Ok(())
    }

    /// Keeps the state that a slot had when it had consumed `position` tokens, now or a step ago.
    pub(super) fn save(&mut self, slot: usize, position: u64, to: &mut Option<Saved>) -> Result<()> {
        let saved = match to.take() {
            Some(saved) => saved,
            None => self.forward.saved()?,
        };
        let steps = usize::try_from(self.forward.position(slot) - position).unwrap_or(usize::MAX);
        self.forward.save(slot, steps, &saved)?;
        *to = Some(saved);
        Ok(())
    }

    /// Puts a slot back to a state kept at `position`, then has it consume `ids` once more, step by step as before: the
    /// bits are those that were. Penalties look at the last `window` of `read`, what it had consumed at that state.
    pub(super) fn rewind(
        &mut self,
        slot: usize,
        (saved, position): (&Saved, u64),
        ids: &[u32],
        (read, window): (&[u32], usize),
    ) -> Result<()> {
        self.settle()?;
        self.arrived[slot].clear();
        self.forward.restore(slot, position, saved)?;
        if let (true, Some(chosen)) = (window > 0, ids.first()) {
            // The choice that this state had led to is remembered already.
            let read: Vec<u32> = read.iter().chain([chosen]).copied().collect();
            self.forward.set_recent(slot, (&read, position + 1), window)?;
        }
        for id in ids {
            self.forward.set_next(slot, *id)?;
            self.forward.set_decoding(&[slot])?;
            let step = self.forward.step()?;
            self.arrived[slot].clear();
            self.arrive(step)?;
        }
        Ok(())
    }

    /// Whether the slot's next token has been chosen already, so that it can go on without being fed.
    pub(super) fn can_go_on(&self, slot: usize) -> bool {
        !self.arrived[slot].is_empty()
    }

    /// Brings a slot to having consumed exactly `position` tokens: steps that ran ahead are taken back, and the last token
    /// shown, if it was not consumed yet, is.
    pub(super) fn finish(&mut self, slot: usize, position: u64) -> Result<()> {
        self.settle()?;
        let now = self.forward.position(slot);
        if now > position {
            let steps = usize::try_from(now - position).unwrap_or(usize::MAX);
            self.forward.take_back(slot, steps);
            self.arrived[slot].clear();
        } else if now < position {
            self.forward.set_decoding(&[slot])?;
            let step = self.forward.step()?;
            self.arrive(step)?;
        }
        Ok(())
    }
}
