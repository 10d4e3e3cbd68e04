//! The origin of a snapshot, and the warnings when it continues with something else.

use super::fingerprint::{Identity, Loaded};
use crate::error::Result;
use crate::kernels::linear::Math;
use crate::model::{Forward, Recipe};
use crate::runtime::checkpoint::Checkpoint;
use std::fmt;

/// The model, arithmetic, device and version that a snapshot was made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    pub(super) identity: Identity,
    pub(super) loaded: Loaded,
    pub(super) math: Math,
    pub(super) adapter: String,
    pub(super) kernels: String,
    pub(super) version: String,
}

/// A difference from the snapshot's origin, so that the tokens after a restore may not be bit for bit the same.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The same model with weights in other formats or rounded otherwise.
    Weights {
        /// The formats that the state was made with.
        was: String,
        /// The formats that it continues with.
        now: String,
    },
    /// Another class of arithmetic.
    Arithmetic {
        /// The class that the state was made with.
        was: Math,
        /// The class that it continues with.
        now: Math,
    },
    /// The norms on dt, B and C have another epsilon.
    Epsilon {
        /// The one that the state was made with.
        was: f32,
        /// The one that it continues with.
        now: f32,
    },
    /// Another adapter or driver.
    Adapter {
        /// The one that the state was made with.
        was: String,
        /// The one that it continues with.
        now: String,
    },
    /// Other forms of the kernels, whose sums may run in another order.
    Kernels {
        /// Those that the state was made with.
        was: String,
        /// Those that it continues with.
        now: String,
    },
    /// Another version of peregrine, whose sums may run in another order.
    Version {
        /// The one that the state was made with.
        was: String,
        /// This one.
        now: String,
    },
    /// The recurrent state was stored in half precision.
    Half,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Weights { was, now } if was == now => {
                write!(f, "the state was made with other {was} weights of this model")
            }
            Warning::Weights { was, now } => write!(f, "the state was made with {was} weights, these are {now}"),
            Warning::Arithmetic { was, now } => write!(f, "the state was made with {was} arithmetic, this is {now}"),
            Warning::Epsilon { was, now } => {
                write!(f, "the state was made with an epsilon of {was} in the mixer, this is {now}")
            }
            Warning::Adapter { was, now } => write!(f, "the state was made on {was}, this is {now}"),
            Warning::Kernels { was, now } => write!(f, "the state was made with the kernels {was}, these are {now}"),
            Warning::Version { was, now } => write!(f, "the state was made by peregrine {was}, this is {now}"),
            Warning::Half => write!(f, "the state was stored in half precision"),
        }?;
        f.write_str(": the continuation may differ")
    }
}

impl Origin {
    /// The origin of snapshots of a checkpoint that was loaded with this recipe.
    pub(in crate::runtime) fn of(checkpoint: &Checkpoint, recipe: Recipe, forward: &Forward) -> Result<Self> {
        let tensors = checkpoint.tensors()?;
        Ok(Origin {
            identity: Identity::of(checkpoint, &tensors),
            loaded: Loaded::of(&tensors, recipe),
            math: forward.variants().math,
            adapter: forward.gpu().info().to_string(),
            kernels: forward.variants().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// The formats of the weights on the device.
    pub fn weights(&self) -> &str {
        &self.loaded.formats
    }

    /// The class of arithmetic.
    pub fn math(&self) -> Math {
        self.math
    }

    /// The adapter, with its driver.
    pub fn adapter(&self) -> &str {
        &self.adapter
    }

    /// The version of peregrine.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The differences of `now`, which is of the same model.
    pub(super) fn warnings(&self, now: &Origin) -> Vec<Warning> {
        let mut warnings = vec![];
        if self.loaded != now.loaded {
            let (was, now) = (self.loaded.formats.clone(), now.loaded.formats.clone());
            warnings.push(Warning::Weights { was, now });
        }
        if self.math != now.math {
            warnings.push(Warning::Arithmetic { was: self.math, now: now.math });
        }
        let eps = |origin: &Origin| origin.identity.config.architecture.inner_norm_eps().unwrap_or(0.0);
        if eps(self) != eps(now) {
            warnings.push(Warning::Epsilon { was: eps(self), now: eps(now) });
        }
        let texts = |origin: &Origin| [origin.adapter.clone(), origin.kernels.clone(), origin.version.clone()];
        let [adapter, kernels, version] = texts(self);
        let [adapter_now, kernels_now, version_now] = texts(now);
        if adapter != adapter_now {
            warnings.push(Warning::Adapter { was: adapter, now: adapter_now });
        } else if kernels != kernels_now && (&self.loaded, self.math) == (&now.loaded, now.math) {
            // Another adapter, formats or class of arithmetic imply other kernels.
            warnings.push(Warning::Kernels { was: kernels, now: kernels_now });
        }
        if version != version_now {
            warnings.push(Warning::Version { was: version, now: version_now });
        }
        warnings
    }
}
