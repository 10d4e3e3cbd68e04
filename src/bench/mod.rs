//! How fast a model runs on an adapter, and what of that the adapter allows: tokens a second beside the bytes that they
//! must read, and those beside what the adapter reads at best.

mod report;

pub use report::{KernelTime, Report, Row, Subject};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Timed};
use crate::kernels::stream;
use crate::model::Forward;
use report::Sample;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What to measure. Each depth is combined with each size of prompt and of answer.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tokens of prompts to read; 0 stands for none.
    pub prompt: Vec<usize>,
    /// Tokens to generate; 0 stands for none.
    pub generate: Vec<usize>,
    /// Tokens that were consumed before.
    pub depths: Vec<usize>,
    /// Measurements of each.
    pub repetitions: usize,
    /// Runs each test once before it counts: kernels are compiled on first use.
    pub warmup: bool,
    /// Times every kernel of a decode step and of a chunk as well.
    pub profile: bool,
}

/// Runs on slot 0 of a model, which must be its only use. `begin` hears what comes next.
pub fn run(forward: &mut Forward, subject: Subject, options: &Options, begin: &mut dyn FnMut(&str)) -> Result<Report> {
    if options.repetitions == 0 {
        let problem = "at least one is needed";
        return Err(Error::BadSetting { name: "repetitions", value: "0".to_owned(), problem });
    }
    let gpu = forward.gpu().clone();
    begin("the speed of memory");
    let stream = stream::measure(&gpu)?;
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
            for n in sizes.iter().filter(|n| **n > 0) {
                let name = format!("{kind}{n}{at}");
                begin(&name);
                rows.push(bench.test(name, kind == "pp", *n, *depth, &start)?);
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

/// A state to start from: nothing consumed, or a saved one.
type Start = Option<(u64, crate::model::Saved)>;

impl Bench<'_> {
    /// Made-up ids: what they are has no influence on the work.
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
        self.forward.prefill(0, &self.ids(depth), |_| gpu.flush())?;
        let saved = self.forward.saved()?;
        self.forward.save(0, 0, &saved)?;
        Ok(Some((depth as u64, saved)))
    }

    fn go_to(&mut self, start: &Start) -> Result<()> {
        match start {
            None => self.forward.reset(0)?,
            Some((position, saved)) => self.forward.restore(0, *position, saved)?,
        }
        self.gpu.flush()
    }

    fn test(&mut self, test: String, prompt: bool, n: usize, depth: usize, start: &Start) -> Result<Row> {
        let once = |bench: &mut Self, n| {
            bench.go_to(start)?;
            if prompt { bench.read(n) } else { bench.generate(n) }
        };
        if self.options.warmup {
            // A few tokens use every kernel of an answer; a prompt is read as it will be.
            once(self, if prompt { n } else { n.min(4) })?;
        }
        let samples = (0..self.options.repetitions).map(|_| once(self, n)).collect::<Result<Vec<_>>>()?;
        let totals = if prompt {
            let chunk = self.forward.chunk();
            let chunks = (0..n).step_by(chunk).map(|at| self.forward.feed_totals(chunk.min(n - at)));
            chunks.fold(self.forward.choice_totals(), crate::gpu::Totals::and)
        } else {
            let step = self.forward.decode_totals(1);
            (1..n).fold(step, |sum, _| sum.and(step))
        };
        Ok(Row { test, prompt, tokens: n, depth, samples, totals, gpu_bytes: self.gpu.allocated_bytes() })
    }

    /// Reads a prompt and chooses the token after it.
    fn read(&mut self, n: usize) -> Result<Sample> {
        let ids = self.ids(n);
        let (gpu, chunk) = (self.gpu.clone(), self.forward.chunk());
        let started = Instant::now();
        let mut left = n;
        let mut waited = Duration::ZERO;
        self.forward.prefill(0, &ids, |fed| {
            left -= fed;
            // A few chunks under way are enough; a long prompt would fill the queue.
            if left > 0 && (left / chunk).is_multiple_of(4) {
                let waiting = Instant::now();
                gpu.flush()?;
                waited += waiting.elapsed();
            }
            Ok(())
        })?;
        let choosing = self.forward.choose_after(0)?;
        let host = started.elapsed() - waited;
        pollster::block_on(self.forward.chosen(choosing))?;
        Ok(Sample { seconds: started.elapsed().as_secs_f64(), host_seconds: host.as_secs_f64() })
    }

    /// Generates greedily, with as many steps under way as an answer has.
    fn generate(&mut self, n: usize) -> Result<Sample> {
        self.forward.set_next(0, self.ids(1)[0])?;
        self.forward.set_decoding(&[0])?;
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
        Ok(Sample { seconds: started.elapsed().as_secs_f64(), host_seconds: host.as_secs_f64() })
    }

    /// One decode step and one chunk, kernel by kernel.
    fn profiles(&mut self) -> Result<Vec<(String, Vec<KernelTime>)>> {
        let tokens = self.options.prompt.iter().copied().max().unwrap_or(0).clamp(1, self.forward.chunk());
        let ids = self.ids(tokens);
        let mut profiles = Vec::new();
        // The first round compiles and warms up.
        for _ in 0..2 {
            profiles.clear();
            self.forward.reset(0)?;
            let timed = pollster::block_on(self.forward.profile_feed(0, &ids))?;
            profiles.push((format!("a chunk of {tokens} tokens"), by_kernel(&timed)));
            self.forward.reset(0)?;
            self.forward.set_next(0, ids[0])?;
            self.forward.set_decoding(&[0])?;
            let timed = pollster::block_on(self.forward.profile_step())?;
            profiles.push(("a decode step".to_owned(), by_kernel(&timed)));
        }
        self.forward.reset(0)?;
        Ok(profiles)
    }
}

/// Sums up by what a dispatch is for: `layer.3.in_proj` counts as in_proj.
fn by_kernel(timed: &[Timed]) -> Vec<KernelTime> {
    let mut kernels: Vec<KernelTime> = Vec::new();
    for one in timed {
        let name = one.label.strip_prefix("layer.").and_then(|rest| rest.split_once('.')).map_or(&*one.label, |x| x.1);
        let name = if name == one.kernel { name.to_owned() } else { format!("{name} ({})", one.kernel) };
        let at = kernels.iter().position(|kernel| kernel.name == name).unwrap_or_else(|| {
            kernels.push(KernelTime { name, dispatches: 0, seconds: 0.0, macs: 0, bytes: 0 });
            kernels.len() - 1
        });
        let kernel = &mut kernels[at];
        kernel.dispatches += 1;
        kernel.seconds += one.seconds;
        kernel.macs += one.macs;
        kernel.bytes += one.bytes;
    }
    kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    kernels
}

/// The most memory that this process has had resident, where the system tells.
fn host_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}
