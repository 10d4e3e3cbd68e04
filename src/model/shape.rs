//! Shapes of published models, for measuring without their weights.

use super::architecture::REGISTRY;
use super::config::Config;

/// A model's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Its usual name.
    pub name: String,
    /// Sizes and constants.
    pub config: Config,
    /// The head is the embedding.
    pub tied: bool,
}

impl Shape {
    /// A published shape, by one of the names in [`SHAPES`](super::SHAPES).
    pub fn named(name: &str) -> Option<Self> {
        let config = REGISTRY.iter().find_map(|entry| (entry.shape)(name))?;
        let tied = config.tied;
        Some(Shape { name: name.to_owned(), config, tied })
    }
}
