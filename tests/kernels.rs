//! Every kernel against its twin, on whatever adapter there is.

mod common;

use peregrine::gpu::Switches;
use peregrine::kernels::{self, case::Plant};

fn every_case(switches: Switches) {
    let gpu = common::gpu_with(switches);
    eprintln!("on {}", gpu.info());
    let mut failures = Vec::new();
    for (_, cases) in kernels::all(gpu.caps()) {
        let (mut share, mut nmse) = (0.0f64, 0.0f64);
        let name = cases[0].kernel;
        for case in &cases {
            match case.run(&gpu, Plant::Nothing).unwrap_or_else(|e| panic!("{case}: {e}")) {
                Ok(reached) => {
                    share = share.max(reached.share);
                    nmse = nmse.max(reached.nmse);
                }
                Err(fault) => failures.push(format!("{case}: {fault}")),
            }
        }
        eprintln!("{name}: {} cases, worst {share:.3} of the bound, nmse {nmse:.1e}", cases.len());
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn every_kernel_agrees_with_its_twin() {
    if !common::no_gpu("every_kernel_agrees_with_its_twin") {
        every_case(Switches::from_env().unwrap());
    }
}

#[test]
fn every_kernel_agrees_without_subgroups_and_in_shards() {
    if !common::no_gpu("every_kernel_agrees_without_subgroups_and_in_shards") {
        let limited =
            Switches { without_subgroups: true, without_f16: true, binding_limit: Some(2048), ..Default::default() };
        every_case(Switches { adapter: Switches::from_env().unwrap().adapter, ..limited });
    }
}

#[test]
fn every_planted_error_is_found() {
    if common::no_gpu("every_planted_error_is_found") {
        return;
    }
    let gpu = common::gpu();
    for (_, cases) in kernels::all(gpu.caps()) {
        for case in &cases {
            for plant in [Plant::WrongValue, Plant::Unwritten, Plant::Stray] {
                let found = case.run(&gpu, plant).unwrap_or_else(|e| panic!("{case}: {e}"));
                assert!(found.is_err(), "{case}: {plant:?} was not found");
            }
        }
    }
}
