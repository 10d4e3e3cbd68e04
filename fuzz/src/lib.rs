//! Fuzz targets: each takes arbitrary bytes as a file of one format.

pub mod targets;
