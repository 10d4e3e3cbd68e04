//! Device timestamps: what they cover, and that they change no results.

mod common;

use common::{made_up, made_up_shape, step};
use peregrine::format::WeightFormat;
use peregrine::gpu::{
    Binding, Clock, Cost, Count, Gpu, KernelDef, LONGEST_SUBMISSION, Plan, ReadbackCopy, ShaderFile, ShaderPart,
    Stages, Switches, Usage,
};
use peregrine::kernels::stream;
use peregrine::model::{Forward, purpose};

/// A device with timestamps, if there is one.
fn clocked(test: &str) -> Option<Gpu> {
    if common::no_gpu(test) {
        return None;
    }
    let gpu = common::gpu();
    if !gpu.caps().timestamps {
        eprintln!("SKIPPED {test}: {} has no timestamp queries", gpu.info());
        return None;
    }
    Some(gpu)
}

fn model(gpu: &Gpu) -> Forward {
    let mut forward = made_up(gpu, &made_up_shape(64, 3, 300), WeightFormat::F32);
    forward.set_next(0, 7).unwrap();
    forward.set_decoding(&[0]).unwrap();
    forward
}

fn tokens(forward: &mut Forward, n: usize) -> Vec<u32> {
    (0..n).map(|_| step(forward)).collect()
}

#[test]
fn timing_steps_does_not_change_their_results() {
    let Some(gpu) = clocked("timing_steps_does_not_change_their_results") else { return };
    let expected = tokens(&mut model(&gpu), 8);
    let mut forward = model(&gpu);
    forward.time_steps(6).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(tokens(&mut forward, 8), expected);
    let wall = started.elapsed().as_secs_f64();
    // The requested number of steps is timed; later ones run untimed.
    let seconds = pollster::block_on(forward.step_seconds()).unwrap().unwrap();
    assert_eq!(seconds.len(), 6);
    assert!(seconds.iter().all(|s| *s > 0.0) && seconds.iter().sum::<f64>() < wall * 1.02, "{seconds:?} of {wall}");
    assert_eq!(pollster::block_on(forward.step_seconds()).unwrap(), None, "timing has ended");

    let mut fewer = model(&gpu);
    fewer.time_steps(6).unwrap();
    tokens(&mut fewer, 2);
    assert_eq!(pollster::block_on(fewer.step_seconds()).unwrap().unwrap().len(), 2);

    let blind = common::gpu_with(Switches { without_timestamps: true, ..Switches::from_env().unwrap() });
    let mut forward = model(&blind);
    forward.time_steps(6).unwrap();
    assert_eq!(tokens(&mut forward, 8), expected);
    assert_eq!(pollster::block_on(forward.step_seconds()).unwrap(), None);
}

/// A slow kernel that adds one to a word.
const SLOW: ShaderFile = ShaderFile {
    file: "slow.wgsl",
    text: "@group(0) @binding(0) var<storage, read_write> words: array<u32>;
        @compute @workgroup_size(64) fn slow(@builtin(local_invocation_index) lane: u32) {
          var v = words[lane];
          for (var i = 0u; i < 300000u; i++) { v = v * 747796405u + lane; }
          words[lane] = select(v, 1u, v > 0u);
        }",
};

/// Simulates a slow adapter: dispatches take far longer than their cost estimate.
#[test]
fn a_run_that_takes_long_is_cut_into_submissions_of_a_tenth_of_a_second() {
    let Some(gpu) = clocked("a_run_that_takes_long_is_cut_into_submissions_of_a_tenth_of_a_second") else { return };
    let def = KernelDef::new("slow", vec![ShaderPart::File(SLOW)], vec![Binding::write("words")]);
    let words = gpu.buffer::<u32>("words", 64, Usage::Storage).unwrap();
    let plan = |n: usize| {
        let mut plan = Plan::new(&gpu, "slow");
        for i in 0..n {
            let grid = [Count::Fixed(1), Count::Fixed(1)];
            let cost = Cost { macs: 1_000_000, ..Default::default() };
            plan.dispatch(&def, format!("slow {i}"), &[("words", words.bind())], grid, cost).unwrap();
        }
        plan
    };
    let seconds = |plan: &Plan| {
        let started = std::time::Instant::now();
        plan.run(1).unwrap().wait(&gpu).unwrap();
        started.elapsed().as_secs_f64()
    };
    let submits = |plan: &Plan| plan.totals(1, Stages::ALL).submits as f64;
    let one = plan(1);
    seconds(&one);
    let longest = LONGEST_SUBMISSION.as_secs_f64();
    let one_takes = (0..5).map(|_| seconds(&one)).fold(f64::INFINITY, f64::min);
    // A run should take about six times the limit of a submission.
    let long = plan((6.0 * longest / one_takes) as usize);
    assert_eq!(submits(&long), 1.0, "nothing was timed yet");
    let takes = (0..8).map(|_| seconds(&long)).fold(f64::INFINITY, f64::min);
    let pieces = submits(&long);
    assert!(pieces >= 0.7 * takes / longest && pieces < 60.0, "{takes} s in {pieces} submissions");
    assert_eq!(submits(&one), 1.0);
}

#[test]
fn a_run_in_several_submissions_is_timed_from_its_first_to_its_last() {
    let Some(gpu) = clocked("a_run_in_several_submissions_is_timed_from_its_first_to_its_last") else { return };
    let def = KernelDef::new("slow", vec![ShaderPart::File(SLOW)], vec![Binding::write("words")]);
    let words = gpu.buffer::<u32>("words", 64, Usage::Storage).unwrap();
    let plan = |n: usize, macs: u64| {
        let mut plan = Plan::new(&gpu, "slow");
        for i in 0..n {
            let grid = [Count::Fixed(1), Count::Fixed(1)];
            let cost = Cost { macs, ..Default::default() };
            plan.dispatch(&def, format!("slow {i}"), &[("words", words.bind())], grid, cost).unwrap();
        }
        plan
    };
    // The best of a few runs, since the machine may be shared.
    let best = |of: &dyn Fn() -> f64| (0..9).map(|_| of()).fold(f64::INFINITY, f64::min);
    let span = |plan: &Plan| {
        let mut clock = Clock::new(&gpu, 1).unwrap().unwrap();
        let to = gpu.readback::<u32>("words", 1).unwrap();
        plan.run_timed((1, Stages::ALL), Some(ReadbackCopy { from: &words, range: 0..1, to: &to }), Some(&mut clock))
            .unwrap();
        pollster::block_on(clock.seconds()).unwrap()[0]
    };
    let (whole, cut, single) = (plan(4, 1), plan(4, 90_000_000_000), plan(1, 1));
    assert_eq!([&whole, &cut, &single].map(|plan| plan.totals(1, Stages::ALL).submits), [1, 4, 1]);
    let one = best(&|| span(&single));
    for (name, four) in [("in one submission", &whole), ("in four", &cut)] {
        for (how, seconds) in [
            ("as a step", best(&|| span(four))),
            ("in a row", best(&|| pollster::block_on(four.seconds_of(1, 1)).unwrap())),
            ("twice in a row", best(&|| pollster::block_on(four.seconds_of(1, 2)).unwrap())),
        ] {
            let times = seconds / one;
            assert!((2.5..8.0).contains(&times), "four {name}, {how}: {seconds:e} s, one {one:e} s");
        }
    }
}

#[test]
fn each_profiled_dispatch_has_its_own_time_and_its_rows_time() {
    let Some(gpu) = clocked("each_profiled_dispatch_has_its_own_time_and_its_rows_time") else { return };
    let expected = tokens(&mut model(&gpu), 8);
    let mut forward = model(&gpu);
    let step = pollster::block_on(forward.profile_step()).unwrap();
    let chunk = pollster::block_on(forward.profile_feed(0, &[3, 1, 4, 1, 5])).unwrap();
    for profile in [&step, &chunk] {
        assert_eq!(profile.alone.len(), profile.in_a_row.len());
        for (alone, row) in profile.alone.iter().zip(&profile.in_a_row) {
            assert_eq!((&alone.label, alone.kernel, alone.bytes), (&row.label, row.kernel, row.bytes));
            assert!(alone.seconds > 0.0 && row.seconds > 0.0, "{alone:?} {row:?}");
            // Only dispatches of one row share its time.
            for other in &profile.in_a_row {
                let alike = (purpose(&other.label), other.kernel) == (purpose(&row.label), row.kernel);
                assert_eq!(alike, other.seconds == row.seconds, "{row:?} {other:?}");
            }
        }
    }
    assert_eq!(step.alone.len(), forward.decode_totals(1).dispatches);
    assert_eq!(chunk.alone.len(), forward.feed_totals(5).dispatches);
    // Resetting the slot removes all effects of the profile.
    forward.reset(0).unwrap();
    forward.set_next(0, 7).unwrap();
    forward.set_decoding(&[0]).unwrap();
    assert_eq!(tokens(&mut forward, 8), expected);
}

#[test]
fn the_speed_of_memory_is_measured_with_a_clock_and_without_and_in_any_binding() {
    let Some(gpu) = clocked("the_speed_of_memory_is_measured_with_a_clock_and_without_and_in_any_binding") else {
        return;
    };
    let before = gpu.allocated_bytes();
    let by_device = pollster::block_on(stream::measure(&gpu)).unwrap();
    assert_eq!(gpu.allocated_bytes(), before, "nothing is left");
    let plain = Switches::from_env().unwrap();
    let blind = common::gpu_with(Switches { without_timestamps: true, ..plain.clone() });
    let by_host = pollster::block_on(stream::measure(&blind)).unwrap();
    // The host's and the device's clock should agree; the machine may be shared.
    assert!((0.2..5.0).contains(&(by_device / by_host)), "{by_device:e} and {by_host:e} B/s");
    for limit in [300, 100_000] {
        let narrow = common::gpu_with(Switches { binding_limit: Some(limit), ..plain.clone() });
        let speed = pollster::block_on(stream::measure(&narrow)).unwrap();
        assert!(speed.is_finite() && speed > 0.0, "{limit}: {speed}");
    }
}
