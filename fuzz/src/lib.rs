//! What is fuzzed: each target takes any bytes as a file of one kind.

pub mod targets;
