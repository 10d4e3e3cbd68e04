//! Opening a device for callers that wait.

use super::{AdapterChoice, AdapterInfo, Gpu, Switches, adapters_async};
use crate::error::Result;
use pollster::block_on;

/// [`adapters_async`], waited for.
pub fn adapters() -> Vec<AdapterInfo> {
    block_on(adapters_async())
}

impl Gpu {
    /// [`Gpu::open_async`], waited for: opens an adapter with the features and limits that the kernels can use.
    pub fn open(choice: &AdapterChoice) -> Result<Self> {
        block_on(Self::open_async(choice))
    }

    /// [`Gpu::open_with_async`], waited for.
    pub fn open_with(choice: &AdapterChoice, switches: Switches) -> Result<Self> {
        block_on(Self::open_with_async(choice, switches))
    }

    /// [`Gpu::reopen_async`], waited for.
    pub fn reopen(&self) -> Result<Self> {
        block_on(self.reopen_async())
    }
}
