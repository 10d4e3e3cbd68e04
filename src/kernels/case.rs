//! Cases: reproducible problems for a kernel, run on the device and by its CPU twin, and compared.
//!
//! Every output buffer starts as a NaN pattern with guard words on both sides, so that an unwritten value, an out-of-range
//! write and a computed NaN are three different mismatches.

mod compare;
mod io;
mod packed;
mod random;

pub(super) use compare::FILL;
pub use compare::{Mismatch, Reached, Tolerance, compare, compare_words};
pub use io::{Io, Plant};
pub use random::{Random, wide};

use crate::error::Result;
use crate::gpu::Gpu;

type Build = Box<dyn Fn(&mut Io) -> Result<()> + Send + Sync>;

/// One reproducible problem: a kernel, a shape, a seed.
pub struct Case {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Shape and variant.
    pub shape: String,
    build: Build,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kernel, self.shape)
    }
}

impl Case {
    pub(super) fn new(
        kernel: &'static str,
        shape: impl Into<String>,
        build: impl Fn(&mut Io) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Case { kernel, shape: shape.into(), build: Box::new(build) }
    }

    /// Runs on the device and by the twin. The outer result says whether it ran, the inner whether both agree.
    pub async fn run(&self, gpu: &Gpu, plant: Plant) -> Result<Result<Reached, Mismatch>> {
        self.run_seeded(gpu, plant, 0).await
    }

    /// [`Case::run`] with other values: the limits were measured with those of seed 0.
    pub async fn run_seeded(&self, gpu: &Gpu, plant: Plant, seed: u64) -> Result<Result<Reached, Mismatch>> {
        let of_shape = self.shape.bytes().fold(7u64, |s, b| s.wrapping_mul(31).wrapping_add(b.into()));
        let mut io = Io::new(gpu, of_shape ^ seed.rotate_left(32));
        (self.build)(&mut io)?;
        io.run(plant).await
    }
}
