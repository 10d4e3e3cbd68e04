//! Blocking calls that open a device.

use super::adapters::{AdapterChoice, AdapterInfo, adapters_async};
use super::caps::Switches;
use super::device::Gpu;
use crate::error::Result;
use pollster::block_on;

/// Blocking form of [`adapters_async`].
pub fn adapters() -> Vec<AdapterInfo> {
    block_on(adapters_async())
}

impl Gpu {
    /// Blocking form of [`Gpu::open_async`]: opens an adapter with the features and limits that the kernels can use.
    pub fn open(choice: &AdapterChoice) -> Result<Self> {
        block_on(Self::open_async(choice))
    }

    /// Blocking form of [`Gpu::open_with_async`].
    pub fn open_with(choice: &AdapterChoice, switches: Switches) -> Result<Self> {
        block_on(Self::open_with_async(choice, switches))
    }

    /// Blocking form of [`Gpu::reopen_async`].
    pub fn reopen(&self) -> Result<Self> {
        block_on(self.reopen_async())
    }
}
