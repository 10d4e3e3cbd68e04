//! Products of weight matrices: `y = W x` between a prologue and an epilogue.
//!
//! [`Linear`] is a weight matrix on the device. `matvec` multiplies it with the rows of a decode step and is bound by the
//! bandwidth of the weights; `matmul` multiplies it with the tokens of a prefill chunk and is bound by arithmetic. Both sum over
//! k in an order that depends on the phase alone.

mod cases;
mod epilogue;
mod math;
pub mod matmul;
pub mod matvec;
mod product;
mod slices;
mod tops;
mod trial;
mod twin;
mod unpack;
mod weights;

pub(super) use cases::matmul::{cases as matmul_cases, defs as matmul_defs};
pub(crate) use cases::matvec::cases_of_variant as matvec_cases_of;
pub(super) use cases::matvec::{cases as matvec_cases, defs as matvec_defs};
pub use epilogue::{Epilogue, NextNorm, Prologue, gate_first};
pub use math::Math;
pub use matmul::{MatmulVariant, Tile};
pub use matvec::MatvecVariant;
pub use product::Product;
pub(super) use tops::{cases as tops_cases, defs as tops_defs};
pub use trial::{Outcome, Trial, trial};
pub use twin::cpu;
#[cfg(feature = "selftest")]
pub(crate) use twin::tolerance;
pub(super) use unpack::{dot_parts, weights_bindings, weights_parts};
pub use weights::{Linear, Matrix};
