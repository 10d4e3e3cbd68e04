//! A recorded list of dispatches, run any number of times.

use super::buffer::{Bound, Readback};
use super::clock::{Clock, Edges};
use super::{Access, Binding, Buf, Gpu, Kernel, KernelDef};
use crate::error::{Error, Result};
use bytemuck::Pod;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Work that one submission may hold, in multiply-adds: an integrated GPU does it well within the two seconds after which
/// a desktop's watchdog resets the device.
pub(super) const SUBMIT_BUDGET: u64 = 100_000_000_000;

/// Size of a dispatch in one dimension, in workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Always this many.
    Fixed(u32),
    /// Enough for the rows of the run, this many a workgroup.
    Rows(u32),
}

impl Count {
    /// Enough workgroups of `per_group` for `items`.
    pub fn of(items: usize, per_group: u32) -> Self {
        Count::Fixed(
            u32::try_from(items.div_ceil(per_group as usize)).expect("shapes are checked when a model is loaded"),
        )
    }

    fn groups(self, rows: u32) -> u32 {
        match self {
            Count::Fixed(n) => n,
            Count::Rows(per_group) => rows.div_ceil(per_group),
        }
    }
}

/// Parts of a plan that not every run needs, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages(u32);

impl Stages {
    /// None of them.
    pub const NONE: Stages = Stages(0);
    /// All of them.
    pub const ALL: Stages = Stages(u32::MAX);

    /// The stage of this number, below 32.
    pub const fn only(number: u32) -> Self {
        Stages(1 << number)
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Stages) -> Self {
        Stages(self.0 | other.0)
    }
}

/// What a dispatch computes and moves: for figures, and for cutting submissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds a row.
    pub macs: u64,
    /// Bytes read in each pass: weights.
    pub bytes: u64,
    /// Bytes read and written a row: activations and state.
    pub row_bytes: u64,
}

/// A kernel that a dispatch may run, by the rows of the run.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Rows that it is meant for, at most.
    pub most_rows: u32,
    /// The kernel.
    pub def: KernelDef,
    /// Its workgroups.
    pub grid: [Count; 2],
    /// How often it reads the weights.
    pub passes: Count,
}

impl Choice {
    /// A kernel for any number of rows, which reads the weights once.
    pub fn only(def: KernelDef, grid: [Count; 2]) -> Self {
        Choice { most_rows: u32::MAX, def, grid, passes: Count::Fixed(1) }
    }
}

/// What a run of a plan takes, or several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Dispatches.
    pub dispatches: usize,
    /// Dispatches that wait for an earlier one of the same submission: a buffer is written that was used, or used that
    /// was written. What wgpu puts a barrier before.
    pub barriers: usize,
    /// Submissions.
    pub submits: usize,
    /// Multiply-adds.
    pub macs: u64,
    /// Bytes that must be moved, at the least.
    pub bytes: u64,
    /// Of these, weights, as often as they are read.
    pub weight_bytes: u64,
}

impl Totals {
    /// Both, one after the other.
    #[must_use]
    pub fn and(self, other: Totals) -> Totals {
        Totals {
            dispatches: self.dispatches + other.dispatches,
            barriers: self.barriers + other.barriers,
            submits: self.submits + other.submits,
            macs: self.macs + other.macs,
            bytes: self.bytes + other.bytes,
            weight_bytes: self.weight_bytes + other.weight_bytes,
        }
    }
}

/// A [`Choice`], compiled when a run first takes it.
struct Variant {
    choice: Choice,
    kernel: OnceLock<Arc<Kernel>>,
}

impl Variant {
    fn kernel(&self, gpu: &Gpu) -> Result<&Kernel> {
        if self.kernel.get().is_none() {
            let _ = self.kernel.set(gpu.kernel(&self.choice.def)?);
        }
        Ok(self.kernel.get().expect("it was set"))
    }
}

pub(super) struct Dispatch {
    pub(super) label: String,
    pub(super) name: &'static str,
    /// From few rows to many.
    variants: Vec<Variant>,
    groups: Vec<wgpu::BindGroup>,
    /// What the groups bind, and whether it is written: alive, and counted, as long as they are.
    bound: Vec<(Bound, bool)>,
    cost: Cost,
    /// Runs that have one of these stages need it; `None`: all do.
    stages: Option<Stages>,
}

impl Dispatch {
    pub(super) fn is_of(&self, stages: Stages) -> bool {
        self.stages.is_none_or(|own| own.0 & stages.0 != 0)
    }

    fn variant(&self, rows: u32) -> &Variant {
        let last = self.variants.last().expect("a dispatch has a kernel");
        self.variants.iter().find(|variant| rows <= variant.choice.most_rows).unwrap_or(last)
    }

    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass<'_>, gpu: &Gpu, rows: u32) -> Result<()> {
        let variant = self.variant(rows);
        pass.set_pipeline(&variant.kernel(gpu)?.pipeline);
        for (i, group) in (0..).zip(&self.groups) {
            pass.set_bind_group(i, group, &[]);
        }
        let grid = variant.choice.grid;
        pass.dispatch_workgroups(grid[0].groups(rows), grid[1].groups(rows), 1);
        Ok(())
    }

    pub(super) fn macs(&self, rows: u32) -> u64 {
        self.cost.macs * u64::from(rows)
    }

    fn weight_bytes(&self, rows: u32) -> u64 {
        self.cost.bytes * u64::from(self.variant(rows).choice.passes.groups(rows))
    }

    pub(super) fn bytes(&self, rows: u32) -> u64 {
        self.weight_bytes(rows) + self.cost.row_bytes * u64::from(rows)
    }
}

/// An ordered list of dispatches with their bind groups made. [`Plan::run`] only encodes and submits; the number of rows is
/// a parameter of the run. Large runs are submitted in pieces.
pub struct Plan {
    pub(super) gpu: Gpu,
    label: &'static str,
    pub(super) dispatches: Vec<Dispatch>,
    /// Of the dispatches that are being recorded.
    stages: Option<Stages>,
}

/// Something that was handed to the device.
#[derive(Debug, Clone)]
pub struct Submitted {
    pub(super) last: wgpu::SubmissionIndex,
}

impl Submitted {
    /// Waits until it is done.
    pub fn wait(self, gpu: &Gpu) -> Result<()> {
        gpu.wait(self.last)
    }
}

/// A copy to the host's memory at the end of a run.
pub struct Copy<'a, T> {
    /// From where.
    pub from: &'a Buf<T>,
    /// Which values.
    pub range: Range<usize>,
    /// To where.
    pub to: &'a Readback<T>,
}

impl Plan {
    /// An empty plan.
    pub fn new(gpu: &Gpu, label: &'static str) -> Self {
        Plan { gpu: gpu.clone(), label, dispatches: Vec::new(), stages: None }
    }

    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Adds what `record` records for runs that have one of these stages.
    pub fn staged(&mut self, stages: Stages, record: impl FnOnce(&mut Plan) -> Result<()>) -> Result<()> {
        let around = self.stages.replace(stages);
        let recorded = record(self);
        self.stages = around;
        recorded
    }

    /// Adds a dispatch. `bound` names every binding of the kernel's two groups.
    pub fn dispatch(
        &mut self,
        def: &KernelDef,
        label: impl Into<String>,
        bound: &[(&str, Bound)],
        grid: [Count; 2],
        cost: Cost,
    ) -> Result<()> {
        self.dispatch_by_rows(vec![Choice::only(def.clone(), grid)], label, bound, cost)
    }

    /// Adds a dispatch whose kernel depends on the rows of the run: the first that is for so many, else the last. All have the
    /// bindings of the first, which alone is compiled at once.
    pub fn dispatch_by_rows(
        &mut self,
        choices: Vec<Choice>,
        label: impl Into<String>,
        bound: &[(&str, Bound)],
        cost: Cost,
    ) -> Result<()> {
        let label = label.into();
        let variants: Vec<Variant> =
            choices.into_iter().map(|choice| Variant { choice, kernel: OnceLock::new() }).collect();
        let kernel = variants[0].kernel(&self.gpu)?;
        let def = &variants[0].choice.def;
        let most = self.gpu.caps().max_groups;
        let mut counts = variants.iter().flat_map(|variant| variant.choice.grid);
        if let Some(Count::Fixed(n)) = counts.find(|count| matches!(count, Count::Fixed(n) if *n > most)) {
            return Err(Error::TooManyGroups { what: label, groups: n, limit: most });
        }
        let names: Vec<&str> = def.bindings.iter().chain(&def.weights).map(|b| b.name).collect();
        assert_eq!(names.len(), bound.len(), "{label}: {} binds {names:?}", def.name);
        let group = |layout: &wgpu::BindGroupLayout, bindings: &[Binding]| {
            let entries: Vec<_> = bindings
                .iter()
                .enumerate()
                .map(|(i, binding)| {
                    let found = bound.iter().find(|(name, _)| *name == binding.name);
                    let (_, bound) = found.unwrap_or_else(|| panic!("{label}: {} is not bound", binding.name));
                    wgpu::BindGroupEntry {
                        binding: u32::try_from(i).expect("a kernel has a few bindings"),
                        resource: bound.resource(),
                    }
                })
                .collect();
            let descriptor = wgpu::BindGroupDescriptor { label: Some(&label), layout, entries: &entries };
            self.gpu.shared.device.create_bind_group(&descriptor)
        };
        let groups = self.gpu.scoped(&label, || {
            [&def.bindings, &def.weights]
                .into_iter()
                .zip(&kernel.layouts)
                .map(|(bindings, layout)| group(layout, bindings))
                .collect()
        })?;
        let written = |name: &str| def.bindings.iter().any(|b| b.name == name && b.access == Access::Write);
        let bound = bound.iter().map(|(name, bound)| (bound.clone(), written(name))).collect();
        self.dispatches.push(Dispatch { label, name: def.name, variants, groups, bound, cost, stages: self.stages });
        Ok(())
    }

    /// What a run of `rows` rows with these stages takes.
    pub fn totals(&self, rows: usize, stages: Stages) -> Totals {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let mut totals = Totals::default();
        let mut left = self.dispatches.as_slice();
        while !left.is_empty() {
            let (piece, rest) = left.split_at(piece_length(left, rows));
            left = rest;
            totals.submits += 1;
            // Buffers used in this submission so far, and whether their last use was a write.
            let mut used: HashMap<usize, bool> = HashMap::new();
            for dispatch in piece.iter().filter(|dispatch| dispatch.is_of(stages)) {
                let waits = |(bound, write): &(Bound, bool)| used.get(&bound.id()).is_some_and(|was| *was || *write);
                totals.barriers += usize::from(dispatch.bound.iter().any(waits));
                for (bound, write) in &dispatch.bound {
                    used.insert(bound.id(), *write);
                }
                totals.dispatches += 1;
                totals.macs += dispatch.macs(rows);
                totals.bytes += dispatch.bytes(rows);
                totals.weight_bytes += dispatch.weight_bytes(rows);
            }
        }
        totals
    }

    /// Encodes and submits every dispatch for `rows` rows.
    pub fn run(&self, rows: usize) -> Result<Submitted> {
        self.run_to::<u32>(rows, Stages::ALL, None)
    }

    /// [`Plan::run`] with these stages, then a copy to the host in the same submission.
    pub fn run_to<T: Pod>(&self, rows: usize, stages: Stages, copy: Option<Copy<'_, T>>) -> Result<Submitted> {
        self.run_timed((rows, stages), copy, None)
    }

    /// [`Plan::run_to`], with the device's clock read at its beginning and its end.
    pub fn run_timed<T: Pod>(
        &self,
        run: (usize, Stages),
        copy: Option<Copy<'_, T>>,
        clock: Option<&mut Clock>,
    ) -> Result<Submitted> {
        self.run_range(0..self.dispatches.len(), run, copy, clock)
    }

    /// Runs the plan dispatch by dispatch and hands each label to `see`: the bindings that the
    /// kernel wrote can then be read.
    pub fn run_stepwise(&self, rows: usize, mut see: impl FnMut(&str) -> Result<()>) -> Result<()> {
        for (i, dispatch) in self.dispatches.iter().enumerate() {
            self.run_range::<u32>(i..i + 1, (rows, Stages::ALL), None, None)?;
            see(&dispatch.label)?;
        }
        Ok(())
    }

    fn run_range<T: Pod>(
        &self,
        range: Range<usize>,
        (rows, stages): (usize, Stages),
        copy: Option<Copy<'_, T>>,
        clock: Option<&mut Clock>,
    ) -> Result<Submitted> {
        self.gpu.check()?;
        let rows = u32::try_from(rows).expect("a chunk has at most 65535 rows");
        let device = &self.gpu.shared.device;
        let mut left = &self.dispatches[range];
        let span = clock.and_then(Clock::next);
        let mut begins = true;
        let mut earlier: Option<wgpu::SubmissionIndex> = None;
        loop {
            let (piece, rest) = left.split_at(piece_length(left, rows));
            left = rest;
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(self.label) });
            {
                let edges = Edges { begins, ends: left.is_empty() };
                begins = false;
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(self.label),
                    timestamp_writes: span.as_ref().and_then(|span| span.writes(edges)),
                });
                let mut needed = piece.iter().filter(|dispatch| dispatch.is_of(stages));
                needed.try_for_each(|dispatch| dispatch.encode(&mut pass, &self.gpu, rows))?;
            }
            if let (true, Some(copy)) = (left.is_empty(), &copy) {
                let (first, bytes) = copy.from.bytes(&copy.range);
                encoder.copy_buffer_to_buffer(copy.from.raw(), first, &copy.to.buffer, 0, bytes);
            }
            let last = self.gpu.shared.queue.submit([encoder.finish()]);
            self.gpu.check()?;
            if left.is_empty() {
                return Ok(Submitted { last });
            }
            // At most two pieces are under way, so that the timeout is about a piece and not about the whole run.
            if let Some(earlier) = earlier.replace(last) {
                self.gpu.wait(earlier)?;
            }
        }
    }
}

/// How many dispatches fit into one submission: at least one.
fn piece_length(dispatches: &[Dispatch], rows: u32) -> usize {
    let mut work = 0;
    for (i, dispatch) in dispatches.iter().enumerate() {
        work += dispatch.macs(rows);
        if i > 0 && work > SUBMIT_BUDGET {
            return i;
        }
    }
    dispatches.len()
}
