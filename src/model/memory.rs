//! The memory plan: the device memory that a model takes, computed before anything is uploaded, and whether it fits.

use super::capacity::Capacity;
use super::config::Config;
use super::embeddings::Embeddings;
use super::options::ForwardOptions;
use super::recipe::{Recipe, Role};
use super::shape::Shape;
use super::state::VERSIONS;
use super::tensors::ModelTensors;
use crate::error::Error;
use crate::format::{Tensor, WeightFormat};
use crate::gpu::{FreeMemory, Gpu, staging_bytes};
use crate::kernels::embed::GivenRows;
use crate::kernels::{ROW_ALIGN, floats};
use std::fmt;

/// A number of bytes, displayed in MB or GB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 {
            bytes if bytes < 1e9 => write!(f, "{:.1} MB", bytes / 1e6),
            bytes => write!(f, "{:.2} GB", bytes / 1e9),
        }
    }
}

/// Bytes on the device and on the host by their use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, in the formats of the recipe.
    pub weights: u64,
    /// Recurrent state of one slot, all versions.
    pub state_per_slot: u64,
    /// Activations, logits and tables of sampling.
    pub activations: u64,
    /// Most host memory of upload staging.
    pub staging: u64,
    /// Most host memory of a session's backup, from which its state is restored after a loss of the device.
    pub backup_per_slot: u64,
    /// Slots.
    pub slots: u64,
    /// Bytes of the largest matrix. If the adapter cannot bind it, it is cut into shards.
    pub largest_matrix: u64,
    /// Where the table of embeddings is kept, whatever was asked for.
    pub embeddings: Embeddings,
    /// Most tokens of a chunk.
    pub chunk: usize,
}

/// The facts about a matrix that decide its memory.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    role: Role,
    stored: WeightFormat,
    rows: usize,
    columns: usize,
}

/// The matrices of a model, and where its table of embeddings is kept.
#[derive(Debug, Clone)]
pub(super) struct Matrices {
    all: Vec<Matrix>,
    embeddings: Embeddings,
}

impl Matrices {
    /// Those of a checkpoint.
    pub(super) fn of(tensors: &ModelTensors<'_>, wanted: Embeddings) -> Self {
        let matrix = |(role, tensor): (Role, &Tensor<'_>)| Matrix {
            role,
            stored: tensor.held_as(),
            rows: tensor.rows(),
            columns: tensor.columns(),
        };
        Matrices { all: tensors.roles().map(matrix).collect(), embeddings: tensors.embeddings(wanted) }
    }

    /// Those of a shape's made-up weights.
    pub(super) fn of_shape(shape: &Shape) -> Self {
        let Config { architecture, vocab, hidden, layers, .. } = &shape.config;
        let matrix = |role, [rows, columns]: [usize; 2]| Matrix { role, stored: WeightFormat::F32, rows, columns };
        let layer = architecture.layer_matrices(*hidden);
        let of_layers = (0..*layers).flat_map(|_| layer.clone().map(|shape| matrix(Role::Projection, shape)));
        let ends: &[Role] = if shape.tied { &[Role::TiedEmbedding] } else { &[Role::Embedding, Role::Head] };
        let ends = ends.iter().map(|role| matrix(*role, [*vocab, *hidden]));
        Matrices { all: ends.chain(of_layers).collect(), embeddings: Embeddings::Device }
    }
}

impl MemoryPlan {
    /// The plan of a model with these tensors and checked `options`, on an adapter that binds `span_limit` bytes.
    pub fn of(config: &Config, tensors: &ModelTensors<'_>, options: ForwardOptions, span_limit: u64) -> Self {
        Self::of_matrices(config, &Matrices::of(tensors, options.embeddings), options, span_limit)
    }

    /// The same for matrices.
    pub(super) fn of_matrices(config: &Config, matrices: &Matrices, options: ForwardOptions, span_limit: u64) -> Self {
        let Config { architecture, hidden, layers, .. } = config;
        let hidden = *hidden;
        let (mut weights, mut largest_matrix, mut largest_row) = (0, 0, 0);
        let embeddings = matrices.embeddings;
        let on_device = |role| role != Role::Embedding || embeddings == Embeddings::Device;
        for matrix in matrices.all.iter().filter(|matrix| on_device(matrix.role)) {
            let format = options.weights.format(matrix.role, matrix.stored, matrix.columns);
            let row = format.device_row_bytes(matrix.columns);
            let bytes = (matrix.rows * row) as u64;
            weights += bytes;
            largest_matrix = bytes.max(largest_matrix);
            largest_row = row.max(largest_row);
        }
        let final_norm = floats(hidden.next_multiple_of(ROW_ALIGN));
        let vectors = architecture.vector_bytes(hidden) * layers + final_norm;
        // Matrices are uploaded by rows, vectors as a whole.
        let largest_piece = largest_row.max(architecture.largest_vector());
        let capacity = Capacity::of(config, options, span_limit);
        let table = matrices.all.iter().find(|matrix| matrix.role == Role::Embedding);
        let given = match (embeddings, table) {
            (Embeddings::Host, Some(table)) => {
                let format = options.weights.format(Role::Embedding, table.stored, hidden);
                GivenRows::bytes(format, capacity.chunk + capacity.slots, hidden) as u64
            }
            _ => 0,
        };
        MemoryPlan {
            weights: weights + vectors as u64,
            state_per_slot: config.state_layout().recurrent_bytes() * VERSIONS as u64,
            activations: capacity.bytes(config) + given,
            staging: staging_bytes(largest_piece) as u64,
            backup_per_slot: config.state_layout().bytes(),
            slots: options.slots as u64,
            largest_matrix,
            embeddings,
            chunk: capacity.chunk,
        }
    }

    /// The plan with each weight format, in the order of [`WeightFormat::ALL`].
    pub fn of_each_format(
        config: &Config,
        tensors: &ModelTensors<'_>,
        options: ForwardOptions,
        span_limit: u64,
    ) -> Vec<(WeightFormat, Self)> {
        Self::of_matrices_in_each_format(config, &Matrices::of(tensors, options.embeddings), options, span_limit)
    }

    /// The plan of a shape's made-up weights in each format.
    pub fn of_shape_in_each_format(
        shape: &Shape,
        options: ForwardOptions,
        span_limit: u64,
    ) -> Vec<(WeightFormat, Self)> {
        Self::of_matrices_in_each_format(&shape.config, &Matrices::of_shape(shape), options, span_limit)
    }

    /// The same for matrices.
    pub(super) fn of_matrices_in_each_format(
        config: &Config,
        matrices: &Matrices,
        options: ForwardOptions,
        span_limit: u64,
    ) -> Vec<(WeightFormat, Self)> {
        let options = |format| ForwardOptions { weights: Recipe::To(format), ..options };
        let plan = |format| (format, Self::of_matrices(config, matrices, options(format), span_limit));
        WeightFormat::ALL.into_iter().map(plan).collect()
    }

    /// Total bytes on the device.
    pub fn total(&self) -> u64 {
        self.weights + self.slots * self.state_per_slot + self.activations
    }

    /// The error that it does not fit. Advises the widest narrower format that fits, or, if the room is unknown, that takes less.
    pub(super) fn refused(&self, room: Option<Room>, why: String, others: &[(WeightFormat, Self)]) -> Error {
        let fitting = others.iter().filter(|(_, other)| other.total() < self.total());
        let fitting = fitting.filter(|(_, other)| room.is_none_or(|room| room.holds(other)));
        // Of several with the same total, the first.
        let widest = fitting.rev().max_by_key(|(_, other)| other.total());
        let advice = match (widest, room) {
            (Some((format, other)), Some(_)) => format!("with --weights {format} it takes {other}, and fits"),
            (Some((format, other)), None) => format!("with --weights {format} it takes {other}"),
            (None, _) => {
                "no format of its weights takes less that fits: try a smaller --chunk, fewer slots, or another device"
                    .to_owned()
            }
        };
        Error::DoesNotFit { needed: self.total(), plan: self.to_string(), why, advice }
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.slots * self.state_per_slot;
        let [total, weights, state, activations] = [self.total(), self.weights, state, self.activations].map(Bytes);
        write!(f, "{total} of GPU memory (weights {weights}, state {state}, activations {activations})")
    }
}

/// The memory that a model may take, by its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The caller's limit.
    Allowed(u64),
    /// Free memory, as the device or the system reports it.
    Free(FreeMemory),
}

impl Room {
    /// The room on this device with these options; `None` if unknown.
    pub fn of(gpu: &Gpu, options: &ForwardOptions) -> Option<Self> {
        options.memory.map(Room::Allowed).or_else(|| gpu.free_memory().map(Room::Free))
    }

    /// Its bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Room::Allowed(bytes) => bytes,
            Room::Free(free) => free.bytes(),
        }
    }

    /// Whether a plan fits. Where the device's memory is the host's, upload staging and backups of sessions count too.
    pub fn holds(self, plan: &MemoryPlan) -> bool {
        let on_host = plan.staging + plan.slots * plan.backup_per_slot;
        let on_host = if matches!(self, Room::Free(FreeMemory::Host(_))) { on_host } else { 0 };
        plan.total() + on_host <= self.bytes()
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = Bytes(self.bytes());
        match self {
            Room::Allowed(_) => write!(f, "it may take {bytes}"),
            Room::Free(FreeMemory::Device(_)) => write!(f, "{bytes} are free"),
            Room::Free(FreeMemory::Host(_)) => write!(f, "{bytes} of the system's memory are free"),
        }
    }
}
