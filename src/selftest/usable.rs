//! Which formats of Falcon Mamba 7B an adapter has memory for.

use crate::format::WeightFormat;
use crate::gpu::Gpu;
use crate::model::{Bytes, ForwardOptions, MemoryPlan, Room, Shape};

/// The model that the figures are for.
pub const SHAPE: &str = "falcon-mamba-7b";

/// A weight format, and the memory that the 7B takes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usable {
    /// The format.
    pub format: WeightFormat,
    /// Bytes on the device.
    pub needs: u64,
    /// Whether that is free now; `None`: the driver does not tell.
    pub fits: Option<bool>,
}

impl std::fmt::Display for Usable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fits = match self.fits {
            Some(true) => "fits",
            Some(false) => "does not fit",
            None => "free memory is unknown",
        };
        write!(f, "{}: {}, {fits}", self.format, Bytes(self.needs))
    }
}

/// What the 7B takes in each format, with one conversation, and whether it fits into what is free.
pub fn usable(gpu: &Gpu) -> Vec<Usable> {
    let options = ForwardOptions { slots: 1, ..Default::default() };
    let room = Room::of(gpu, &options);
    let shape = Shape::named(SHAPE).expect("it is a shape of the registry");
    let plans = MemoryPlan::of_shape_in_each_format(&shape, options, gpu.caps().span_limit());
    let usable = |(format, plan): (WeightFormat, MemoryPlan)| Usable {
        format,
        needs: plan.total(),
        fits: room.map(|room| room.holds(&plan)),
    };
    plans.into_iter().map(usable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_that_figures_are_for_exists() {
        assert!(Shape::named(SHAPE).is_some());
    }
}
