//! Loading: from a checkpoint's tensors to a model that is ready to run.

use super::config::Config;
use super::forward::Forward;
use super::memory::{Bytes, Matrices, MemoryPlan, Room};
use super::options::ForwardOptions;
use super::shape::Shape;
use super::tensors::ModelTensors;
use super::weights::{Progress, Weights};
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::gpu::Gpu;
use std::sync::Arc;

impl Forward {
    /// Uploads a checkpoint's weights and records the plans; `progress` is called after each piece. A model that is known not to fit
    /// is refused before anything is uploaded: [`Error::DoesNotFit`].
    pub async fn load_async(
        gpu: &Gpu,
        config: &Config,
        tensors: &ModelTensors<'_>,
        options: ForwardOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let options = options.settled(gpu, config, tensors);
        let plan = MemoryPlan::checked(gpu, config, tensors, options)?;
        let load = async {
            let weights = Weights::load(gpu, tensors, options.weight_options(), progress)?;
            Forward::new_async(gpu, config, Arc::new(weights), options).await
        };
        load.await.map_err(|error| {
            let others = MemoryPlan::of_each_format(config, tensors, options, gpu.caps().span_limit());
            plan.explained(error, &others)
        })
    }
}

impl MemoryPlan {
    /// Turns an out-of-memory error into [`Error::DoesNotFit`] of the whole model; keeps other errors.
    fn explained(&self, error: Error, others: &[(WeightFormat, MemoryPlan)]) -> Error {
        match error {
            Error::OutOfMemory { what, bytes } => {
                self.refused(None, format!("the device has no room for {what} ({})", Bytes(bytes)), others)
            }
            other => other,
        }
    }

    /// The plan of a model on this device; [`Error::DoesNotFit`] if it is known not to fit.
    pub fn checked(gpu: &Gpu, config: &Config, tensors: &ModelTensors<'_>, options: ForwardOptions) -> Result<Self> {
        Self::checked_matrices(gpu, config, &Matrices::of(tensors, options.embeddings), options)
    }

    /// The same for a shape's made-up weights.
    pub fn checked_shape(gpu: &Gpu, shape: &Shape, options: ForwardOptions) -> Result<Self> {
        Self::checked_matrices(gpu, &shape.config, &Matrices::of_shape(shape), options)
    }

    fn checked_matrices(gpu: &Gpu, config: &Config, matrices: &Matrices, options: ForwardOptions) -> Result<Self> {
        options.check()?;
        let options = options.settled_for(gpu, config, matrices);
        let span_limit = gpu.caps().span_limit();
        let plan = MemoryPlan::of_matrices(config, matrices, options, span_limit);
        match Room::of(gpu, &options) {
            Some(room) if !room.holds(&plan) => {
                let others = MemoryPlan::of_matrices_in_each_format(config, matrices, options, span_limit);
                Err(plan.refused(Some(room), room.to_string(), &others))
            }
            _ => Ok(plan),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::FreeMemory;
    use crate::model::Embeddings;

    const MB: u64 = 1_000_000;

    fn plan(weights: u64) -> MemoryPlan {
        let weights = weights * MB;
        let (state_per_slot, activations, staging, backup_per_slot) = (10 * MB, 5 * MB, 60 * MB, 2 * MB);
        MemoryPlan {
            weights,
            state_per_slot,
            activations,
            staging,
            backup_per_slot,
            slots: 2,
            largest_matrix: weights,
            embeddings: Embeddings::Device,
            chunk: 512,
        }
    }

    fn others() -> Vec<(WeightFormat, MemoryPlan)> {
        use WeightFormat::{Bf16, F16, F32, Q4K, Q8_0};
        [(F32, 400), (F16, 200), (Bf16, 200), (Q8_0, 100), (Q4K, 50)].map(|(format, mb)| (format, plan(mb))).to_vec()
    }

    #[test]
    fn a_refusal_names_the_widest_format_that_fits() {
        for (room, said) in [(300, "--weights f16 "), (225, "--weights f16 "), (224, "--weights q8_0 "), (80, "q4_K ")]
        {
            let room = Room::Allowed(room * MB);
            let text = plan(400).refused(Some(room), room.to_string(), &others()).to_string();
            assert!(text.contains(said) && text.contains("and fits"), "{room:?}: {text}");
            for part in ["425.0 MB", "weights 400.0 MB", "state 20.0 MB", "activations 5.0 MB"] {
                assert!(text.contains(part), "{part} is missing in {text}");
            }
        }
        let none = Room::Allowed(74 * MB);
        let text = plan(400).refused(Some(none), none.to_string(), &others()).to_string();
        assert!(text.contains("no format") && text.contains("--chunk"), "{text}");
        // A wider format than the one asked for is not advised.
        let text = plan(50).refused(Some(none), none.to_string(), &others()).to_string();
        assert!(text.contains("no format"), "{text}");
    }

    #[test]
    fn staging_and_backups_count_where_the_devices_memory_is_the_hosts() {
        let plan = plan(100);
        for (bytes, device, host) in [(125, true, false), (124, false, false), (188, true, false), (189, true, true)] {
            assert_eq!(Room::Free(FreeMemory::Device(bytes * MB)).holds(&plan), device, "{bytes}");
            assert_eq!(Room::Allowed(bytes * MB).holds(&plan), device, "{bytes}");
            assert_eq!(Room::Free(FreeMemory::Host(bytes * MB)).holds(&plan), host, "{bytes}");
        }
    }

    #[test]
    fn a_device_that_runs_out_of_memory_is_explained_by_the_plan() {
        let error = Error::OutOfMemory { what: "layer.7.in_proj".to_owned(), bytes: 50 * MB };
        let explained = plan(400).explained(error, &others());
        assert!(matches!(explained, Error::DoesNotFit { needed, .. } if needed == 425 * MB), "{explained:?}");
        let text = explained.to_string();
        for part in ["425.0 MB", "no room for layer.7.in_proj (50.0 MB)", "--weights f16 it takes 225.0 MB"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("and fits"), "whether it fits is unknown: {text}");
        assert!(matches!(plan(400).explained(Error::NoTokens, &others()), Error::NoTokens));
    }
}
