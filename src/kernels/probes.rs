//! Probes: kernels that no model uses. They find out whether a driver keeps the promises that the other kernels rely on.

pub mod copy;
pub mod functions;
pub mod race;
pub mod special_values;
pub mod teams;
