//! Skipping tests where there is no device, also for the bindings.

/// Whether `PEREGRINE_NO_GPU` skips this test; without it a missing device fails the test.
pub fn no_gpu(test: &str) -> bool {
    let skip = std::env::var_os("PEREGRINE_NO_GPU").is_some_and(|v| v == "1");
    if skip {
        eprintln!("SKIPPED {test}: PEREGRINE_NO_GPU=1");
    }
    skip
}
