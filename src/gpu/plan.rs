//! A recorded list of dispatches, run any number of times.

use super::budget::Budget;
use super::buffer::Bound;
use super::device::Gpu;
use super::kernel::{Access, Binding, Kernel, KernelDef};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Size of a dispatch in one dimension, in workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Always this many.
    Fixed(u32),
    /// Enough for the rows of the run, this many a workgroup.
    Rows(u32),
    /// `groups` for each `rows` rows of the run.
    Each {
        /// Rows.
        rows: u32,
        /// Workgroups.
        groups: u32,
    },
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
            Count::Each { rows: per, groups } => rows.div_ceil(per) * groups,
        }
    }
}

/// Optional parts of a plan, as a set.
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

    /// The union.
    #[must_use]
    pub const fn and(self, other: Stages) -> Self {
        Stages(self.0 | other.0)
    }
}

/// What a dispatch computes and moves: for reports, and to split submissions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds per row.
    pub macs: u64,
    /// Bytes of weights read per pass.
    pub bytes: u64,
    /// Bytes of activations and state read and written per row.
    pub row_bytes: u64,
}

/// Work of moving a byte, in multiply-adds. GPUs do 10 to 60 multiply-adds in that time, CPUs about two.
const WORK_PER_BYTE: u64 = 8;

impl Cost {
    /// Work of `rows` rows that read the weights `passes` times.
    fn work(self, rows: u32, passes: u32) -> u64 {
        let rows = u64::from(rows);
        self.macs * rows + (self.bytes * u64::from(passes) + self.row_bytes * rows) * WORK_PER_BYTE
    }
}

/// A kernel for runs of up to `most_rows` rows.
#[derive(Debug, Clone)]
pub struct KernelChoice {
    /// Most rows that it is meant for.
    pub most_rows: u32,
    /// The kernel.
    pub def: KernelDef,
    /// Its workgroups.
    pub grid: [Count; 2],
    /// Passes over the weights.
    pub passes: Count,
}

impl KernelChoice {
    /// A kernel for any number of rows that reads the weights once.
    pub fn only(def: KernelDef, grid: [Count; 2]) -> Self {
        KernelChoice { most_rows: u32::MAX, def, grid, passes: Count::Fixed(1) }
    }
}

/// Dispatches, work and traffic of one or several runs of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Dispatches.
    pub dispatches: usize,
    /// Dispatches that wait for an earlier one of the same submission, because they write a buffer that it uses or use one that it
    /// writes: wgpu puts a barrier before them.
    pub barriers: usize,
    /// Submissions.
    pub submits: usize,
    /// Multiply-adds.
    pub macs: u64,
    /// Least bytes that must be moved.
    pub bytes: u64,
    /// Bytes of weights among them, counted per pass.
    pub weight_bytes: u64,
}

impl Totals {
    /// The sum of both.
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

/// A [`KernelChoice`], compiled when a run first uses it.
struct CompiledChoice {
    choice: KernelChoice,
    kernel: OnceLock<Arc<Kernel>>,
}

impl CompiledChoice {
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
    variants: Vec<CompiledChoice>,
    groups: Vec<wgpu::BindGroup>,
    /// The bound buffers, and whether they are written. Keeps them alive and counted.
    bound: Vec<(Bound, bool)>,
    cost: Cost,
    /// Runs with one of these stages need it; `None`: every run does.
    stages: Option<Stages>,
}

impl Dispatch {
    pub(super) fn is_of(&self, stages: Stages) -> bool {
        self.stages.is_none_or(|own| own.0 & stages.0 != 0)
    }

    fn variant(&self, rows: u32) -> &CompiledChoice {
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

    /// Work, as an estimate of time.
    pub(super) fn work(&self, rows: u32) -> u64 {
        self.cost.work(rows, self.variant(rows).choice.passes.groups(rows))
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

/// An ordered list of dispatches with their bind groups. [`Plan::run`] only encodes and submits; the number of rows is a
/// parameter of the run. Large runs are submitted in pieces.
pub struct Plan {
    pub(super) gpu: Gpu,
    pub(super) label: &'static str,
    pub(super) dispatches: Vec<Dispatch>,
    /// Stages of the dispatches being recorded.
    stages: Option<Stages>,
    pub(super) budget: Arc<Budget>,
}

impl Plan {
    /// An empty plan.
    pub fn new(gpu: &Gpu, label: &'static str) -> Self {
        let budget = Arc::new(Budget::first(gpu.caps()));
        Plan { gpu: gpu.clone(), label, dispatches: Vec::new(), stages: None, budget }
    }

    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Records dispatches for runs with one of these stages only.
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
        self.dispatch_by_rows(vec![KernelChoice::only(def.clone(), grid)], label, bound, cost)
    }

    /// Adds a dispatch whose kernel depends on the rows of the run: the first choice for that many, else the last. All have the
    /// bindings of the first, which is compiled at once; the others on first use.
    pub fn dispatch_by_rows(
        &mut self,
        choices: Vec<KernelChoice>,
        label: impl Into<String>,
        bound: &[(&str, Bound)],
        cost: Cost,
    ) -> Result<()> {
        let label = label.into();
        let variants: Vec<CompiledChoice> =
            choices.into_iter().map(|choice| CompiledChoice { choice, kernel: OnceLock::new() }).collect();
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

    /// How many dispatches fit into one submission, at least one, and their work.
    pub(super) fn piece_length(&self, dispatches: &[Dispatch], rows: u32) -> (usize, u64) {
        let (most, mut work) = (self.budget.now(), 0);
        for (i, dispatch) in dispatches.iter().enumerate() {
            let own = dispatch.work(rows);
            if i > 0 && work + own > most {
                return (i, work);
            }
            work += own;
        }
        (dispatches.len(), work)
    }

    /// Totals of a run of `rows` rows with these stages.
    pub fn totals(&self, rows: usize, stages: Stages) -> Totals {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let mut totals = Totals::default();
        let mut left = self.dispatches.as_slice();
        while !left.is_empty() {
            let (piece, rest) = left.split_at(self.piece_length(left, rows).0);
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
}
