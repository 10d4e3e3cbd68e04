//! Benchmarks of a model on an adapter: tokens per second, bytes read per token, and their share of the adapter's memory bandwidth.

mod longest;
mod pictures;
mod profile;
mod report;

pub use longest::{Length, Longest, key_value_bytes, longest};
pub use pictures::{PictureModel, PictureOptions, PictureReport, PictureRow, PictureSize, PictureTimes, pictures};
pub use profile::KernelTime;
pub use report::{Measurement, Report, Size, Subject};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::select::SamplingParams;
use crate::kernels::stream;
use crate::model::Forward;
use profile::by_kernel;
use report::Sample;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most steps of an answer that are timed on the device: each keeps two timestamps until its end.
const TIMED_STEPS: usize = 1 << 16;

/// What to measure: each depth with each size of prompt and of answer.
#[derive(Debug, Clone)]
pub struct Options {
    /// Prompt sizes in tokens; 0: none.
    pub prompt: Vec<usize>,
    /// Numbers of tokens to generate; 0: none.
    pub generate: Vec<usize>,
    /// Numbers of tokens consumed before.
    pub depths: Vec<usize>,
    /// Numbers of slots that generate at once, one row of a step each.
    pub parallel: Vec<usize>,
    /// Runs of each test.
    pub repetitions: usize,
    /// Runs each test once before, because kernels are compiled on first use.
    pub warmup: bool,
    /// Also times every kernel of a decode step and of a chunk.
    pub profile: bool,
    /// Generates greedily, then again with these parameters.
    pub sampling: Option<SamplingParams>,
}

/// Runs the tests on the first slots of a model that nothing else uses. `begin` is called with the name of each before it starts.
pub fn run(forward: &mut Forward, subject: Subject, options: &Options, begin: &mut dyn FnMut(&str)) -> Result<Report> {
    if options.repetitions == 0 {
        let problem = "at least one is needed";
        return Err(Error::BadSetting { name: "repetitions", value: "0".to_owned(), problem });
    }
    if let Some(wrong) = options.parallel.iter().find(|rows| !(1..=forward.state().slots()).contains(*rows)) {
        let problem = "it must be from 1 to the number of slots";
        return Err(Error::BadSetting { name: "parallel", value: wrong.to_string(), problem });
    }
    let gpu = forward.gpu().clone();
    begin("memory bandwidth");
    let stream = pollster::block_on(stream::measure(&gpu))?;
    let mut bench = Bench { forward, options, gpu: gpu.clone() };
    let mut rows = Vec::new();
    for depth in &options.depths {
        let tests = [(&options.prompt, "pp"), (&options.generate, "tg")];
        if tests.iter().all(|(sizes, _)| sizes.iter().all(|n| *n == 0)) {
            continue;
        }
        let at = if *depth == 0 { String::new() } else { format!(" @ d{depth}") };
        begin(&format!("the first {depth} tokens"));
        let start = bench.start(*depth)?;
        for (sizes, kind) in tests {
            let alone = [1];
            let parallel = if kind == "pp" { &alone[..] } else { &options.parallel };
            for (n, parallel) in sizes.iter().filter(|n| **n > 0).flat_map(|n| parallel.iter().map(move |b| (*n, *b))) {
                let of = if parallel == 1 { String::new() } else { format!(" pl{parallel}") };
                let size = Size { prompt: kind == "pp", tokens: n, parallel, depth: *depth };
                let sampling = options.sampling.filter(|_| kind == "tg").map(Some);
                for sampled in [None].into_iter().chain(sampling) {
                    let how = if sampled.is_some() { " sampled" } else { "" };
                    let name = format!("{kind}{n}{of}{how}{at}");
                    begin(&name);
                    rows.push(bench.test(Test { name, size, sampled }, &start)?);
                }
            }
        }
    }
    let mut profiles = Vec::new();
    if options.profile {
        begin("the profile");
        profiles = bench.profiles()?;
    }
    Ok(Report {
        subject,
        adapter: gpu.info().clone(),
        stream_bytes_per_s: stream,
        gpu_bytes: gpu.allocated_bytes(),
        host_peak_bytes: host_peak_bytes(),
        rows,
        profiles,
    })
}

struct Bench<'a> {
    forward: &'a mut Forward,
    options: &'a Options,
    gpu: Gpu,
}

/// A test to run.
struct Test {
    name: String,
    size: Size,
    sampled: Option<SamplingParams>,
}

/// A state to start from: nothing consumed, or a saved one.
type Start = Option<(u64, crate::model::Saved)>;

impl Bench<'_> {
    /// Arbitrary ids: the work does not depend on them.
    fn ids(&self, n: usize) -> Vec<u32> {
        let vocab = self.forward.config().vocab;
        (0..n).map(|i| ((i * 7919 + 11) % vocab) as u32).collect()
    }

    fn start(&mut self, depth: usize) -> Result<Start> {
        self.forward.reset(0)?;
        if depth == 0 {
            return Ok(None);
        }
        let gpu = self.gpu.clone();
        let ids = self.ids(depth);
        pollster::block_on(self.forward.prefill(0, &ids, |_| gpu.flush()))?;
        let saved = self.forward.saved()?;
        self.forward.save(0, 0, &saved)?;
        Ok(Some((depth as u64, saved)))
    }

    fn go_to(&mut self, start: &Start, slots: usize) -> Result<()> {
        for slot in 0..slots {
            match start {
                None => self.forward.reset(slot)?,
                Some((position, saved)) => self.forward.restore(slot, *position, saved)?,
            }
        }
        self.gpu.flush()
    }

    fn test(&mut self, test: Test, start: &Start) -> Result<Measurement> {
        let Test { name: test, size, sampled } = test;
        let Size { prompt, tokens: n, parallel, .. } = size;
        let once = |bench: &mut Self, n| {
            bench.go_to(start, parallel)?;
            if prompt {
                return bench.read(n);
            }
            bench.choose_by(sampled.unwrap_or(SamplingParams::GREEDY), parallel)?;
            bench.generate(n, parallel)
        };
        if self.options.warmup {
            // A few tokens use every kernel of an answer; a prompt is read in full.
            once(self, if prompt { n } else { n.min(4) })?;
        }
        let samples = (0..self.options.repetitions).map(|_| once(self, n)).collect::<Result<Vec<_>>>()?;
        self.choose_by(SamplingParams::GREEDY, parallel)?;
        let totals = if prompt {
            let chunk = self.forward.chunk();
            let chunks = (0..n).step_by(chunk).map(|at| self.forward.feed_totals(chunk.min(n - at)));
            chunks.fold(self.forward.choice_totals(), crate::gpu::Totals::and)
        } else {
            let step = self.forward.decode_totals(parallel);
            (1..n).fold(step, |sum, _| sum.and(step))
        };
        Ok(Measurement { test, size, sampled, samples, totals, gpu_bytes: self.gpu.allocated_bytes() })
    }

    /// Reads a prompt and selects the next token.
    fn read(&mut self, n: usize) -> Result<Sample> {
        let ids = self.ids(n);
        let (gpu, chunk) = (self.gpu.clone(), self.forward.chunk());
        let started = Instant::now();
        let mut left = n;
        let mut waited = Duration::ZERO;
        let fed = |fed| {
            left -= fed;
            // A few chunks in flight are enough; a long prompt would fill the queue.
            if left > 0 && (left / chunk).is_multiple_of(4) {
                let waiting = Instant::now();
                gpu.flush()?;
                waited += waiting.elapsed();
            }
            Ok(())
        };
        pollster::block_on(self.forward.prefill(0, &ids, fed))?;
        let choosing = self.forward.choose_after(0)?;
        let host = started.elapsed() - waited;
        pollster::block_on(self.forward.chosen(choosing))?;
        Ok(Sample { seconds: started.elapsed().as_secs_f64(), host_seconds: host.as_secs_f64(), device_seconds: None })
    }

    /// Sets the sampling parameters of the first slots. No token so far counts as recent.
    fn choose_by(&mut self, rules: SamplingParams, slots: usize) -> Result<()> {
        for slot in 0..slots {
            self.forward.set_rules(slot, rules)?;
            if rules.window > 0 {
                let end = self.forward.position(slot);
                self.forward.set_recent(slot, (&[], end), rules.window as usize)?;
            }
        }
        Ok(())
    }

    /// Generates in some slots, with as many steps in flight as in an answer.
    fn generate(&mut self, n: usize, slots: usize) -> Result<Sample> {
        self.decode(slots)?;
        self.forward.time_steps(n.min(TIMED_STEPS))?;
        self.gpu.flush()?;
        let started = Instant::now();
        let mut host = Duration::ZERO;
        let mut under_way = VecDeque::new();
        for _ in 0..n {
            let submitting = Instant::now();
            under_way.push_back(self.forward.step()?);
            host += submitting.elapsed();
            if under_way.len() > self.forward.run_ahead() {
                let first = under_way.pop_front().expect("a step is under way");
                pollster::block_on(self.forward.chosen(first))?;
            }
        }
        for choosing in under_way {
            pollster::block_on(self.forward.chosen(choosing))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let steps = pollster::block_on(self.forward.step_seconds())?;
        // If not all were timed, those that were stand for all.
        let device_seconds = steps.map(|steps| steps.iter().sum::<f64>() / steps.len() as f64 * n as f64);
        Ok(Sample { seconds, host_seconds: host.as_secs_f64(), device_seconds })
    }

    /// Makes the first slots, each with another token, the rows of the next steps.
    fn decode(&mut self, slots: usize) -> Result<()> {
        let slots: Vec<usize> = (0..slots).collect();
        for (slot, id) in slots.iter().zip(self.ids(slots.len())) {
            self.forward.set_next(*slot, id)?;
        }
        self.forward.set_decoding(&slots)
    }

    /// Times decode steps and one chunk, kernel by kernel.
    fn profiles(&mut self) -> Result<Vec<(String, Vec<KernelTime>)>> {
        let tokens = self.options.prompt.iter().copied().max().unwrap_or(0).clamp(1, self.forward.chunk());
        let ids = self.ids(tokens);
        let mut profiles = Vec::new();
        // The first round compiles and warms up.
        for _ in 0..2 {
            profiles.clear();
            self.forward.reset(0)?;
            let profile = pollster::block_on(self.forward.profile_feed(0, &ids))?;
            profiles.push((format!("a chunk of {tokens} tokens"), by_kernel(&profile)));
            for parallel in &self.options.parallel {
                self.go_to(&None, *parallel)?;
                self.decode(*parallel)?;
                let profile = pollster::block_on(self.forward.profile_step())?;
                let of = if *parallel == 1 { String::new() } else { format!(" of {parallel} rows") };
                profiles.push((format!("a decode step{of}"), by_kernel(&profile)));
            }
        }
        self.forward.reset(0)?;
        Ok(profiles)
    }
}

/// Peak resident memory of this process, if the system reports it.
fn host_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}
