//! Pictures: classes and features by Vision Mamba.
//!
//! Open a [`VisionCheckpoint`], load it as a [`VisionModel`], and give it [`Picture`]s. The calls that wait have async twins, as
//! those of sessions have.

#[cfg(feature = "blocking")]
mod blocking;
mod checkpoint;
mod export;
mod features;
mod model;
mod open_all;
mod picture;
mod preprocess;

pub use checkpoint::VisionCheckpoint;
pub use features::{FeatureMap, FeatureOptions, Features};
pub use model::{Class, VisionModel, VisionOptions};
pub use picture::Picture;
pub use preprocess::{Pixels, Preprocess, Resample, Resize};
