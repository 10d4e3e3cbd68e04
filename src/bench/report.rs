//! Results, as Markdown, CSV and JSON.

use super::profile::{self, KernelTime};
use crate::gpu::{AdapterInfo, Totals};
use crate::kernels::select::SamplingParams;
use serde_json::{Value, json};

/// The model measured.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The model's name or folder.
    pub model: String,
    /// Storage format of its matrices.
    pub weights: String,
    /// Bytes of its weights on the device.
    pub weight_bytes: u64,
    /// Number of parameters.
    pub parameters: u64,
    /// Class of arithmetic.
    pub math: String,
    /// Kernel variants.
    pub variants: String,
    /// Most tokens of a prefill step.
    pub chunk: usize,
    /// The commit of this build; empty if unknown.
    pub commit: String,
}

/// One run of a test.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub(super) seconds: f64,
    /// Of these, time of the host to record and submit.
    pub(super) host_seconds: f64,
    /// Of these, time of the device for steps; `None` without a clock, and for prompts.
    pub(super) device_seconds: Option<f64>,
}

/// What a test does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Whether a prompt is read; else tokens are generated.
    pub prompt: bool,
    /// Tokens read or generated per slot.
    pub tokens: usize,
    /// Slots at once.
    pub parallel: usize,
    /// Tokens consumed before in each slot.
    pub depth: usize,
}

/// The runs of one test.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Its name as in llama-bench, and batched-bench for slots: pp512, tg128, tg128 pl8, tg128 sampled, pp512 @ d1024.
    pub test: String,
    /// Its size.
    pub size: Size,
    /// Sampling parameters; `None`: greedy.
    pub sampled: Option<SamplingParams>,
    /// One per run.
    pub samples: Vec<Sample>,
    /// Dispatches, work and traffic of one run.
    pub totals: Totals,
    /// Bytes of buffers on the device after the test.
    pub gpu_bytes: u64,
}

/// All results.
#[derive(Debug, Clone)]
pub struct Report {
    /// The model.
    pub subject: Subject,
    /// The adapter.
    pub adapter: AdapterInfo,
    /// Memory read bandwidth of the adapter, in bytes per second.
    pub stream_bytes_per_s: f64,
    /// Bytes of buffers on the device.
    pub gpu_bytes: u64,
    /// Peak resident memory of the process, if the system reports it.
    pub host_peak_bytes: Option<u64>,
    /// Tests.
    pub rows: Vec<Measurement>,
    /// Kernels of each profiled step or chunk, slowest first.
    pub profiles: Vec<(String, Vec<KernelTime>)>,
}

impl Measurement {
    /// Tokens read or generated in all slots.
    pub fn tokens(&self) -> usize {
        self.size.tokens * self.size.parallel
    }

    /// Tokens per second of each run, over all slots.
    pub fn speeds(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| self.tokens() as f64 / sample.seconds).collect()
    }

    /// Mean speed in tokens per second.
    pub fn tokens_per_s(&self) -> f64 {
        let speeds = self.speeds();
        speeds.iter().sum::<f64>() / speeds.len() as f64
    }

    /// Standard deviation of the speeds; 0 for a single run.
    pub fn deviation(&self) -> f64 {
        let (speeds, mean) = (self.speeds(), self.tokens_per_s());
        let squares: f64 = speeds.iter().map(|speed| (speed - mean) * (speed - mean)).sum();
        if speeds.len() > 1 { (squares / (speeds.len() - 1) as f64).sqrt() } else { 0.0 }
    }

    fn mean(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(of).sum::<f64>() / self.samples.len() as f64
    }

    /// Milliseconds per token of wall-clock time.
    pub fn ms_per_token(&self) -> f64 {
        self.mean(|sample| sample.seconds) * 1e3 / self.tokens() as f64
    }

    /// Milliseconds per token of device time, from the first kernel of each step to its last; `None` without a clock, and for
    /// prompts.
    pub fn gpu_ms_per_token(&self) -> Option<f64> {
        let all_timed = self.samples.iter().all(|sample| sample.device_seconds.is_some());
        all_timed.then(|| self.mean(|sample| sample.device_seconds.unwrap_or(0.0)) * 1e3 / self.tokens() as f64)
    }

    /// Share of the time that the device was idle, waiting for the host or between submissions.
    pub fn gpu_idle(&self) -> Option<f64> {
        self.gpu_ms_per_token().map(|ms| 1.0 - ms / self.ms_per_token())
    }

    /// Sampling parameters in words; `None` for a prompt.
    fn sampling(&self) -> Option<String> {
        let Some(rules) = &self.sampled else { return (!self.size.prompt).then(|| "greedy".to_owned()) };
        // The parameters hold the logarithm of min-p in f32.
        let min_p = (rules.log_min_p.exp() * 1e5).round() / 1e5;
        let SamplingParams { temperature, top_k, top_p, repeat_penalty, window, .. } = rules;
        let mut text = format!("temp {temperature}, top-k {top_k}, top-p {top_p}, min-p {min_p}");
        if *window > 0 {
            text += &format!(", repeat penalty {repeat_penalty} over {window} tokens");
        }
        Some(text)
    }
}

/// Columns of the CSV.
const COLUMNS: [&str; 37] = [
    "model",
    "weights",
    "math",
    "variants",
    "chunk",
    "parameters",
    "weight_bytes",
    "adapter",
    "backend",
    "driver",
    "commit",
    "test",
    "n_prompt",
    "n_gen",
    "n_parallel",
    "depth",
    "sampling",
    "tokens_per_s",
    "tokens_per_s_sd",
    "samples",
    "ttft_ms",
    "bytes_per_token",
    "read_gb_s",
    "weight_gb_s",
    "stream_gb_s",
    "share_of_stream",
    "gflop_s",
    "dispatches_per_token",
    "barriers_per_token",
    "submits_per_token",
    "ms_per_token",
    "gpu_ms_per_token",
    "gpu_idle",
    "cpu_ms_per_token",
    "gpu_bytes",
    "host_peak_bytes",
    "schema",
];

impl Report {
    fn fields(&self, row: &Measurement) -> Value {
        let Subject { model, weights, weight_bytes, parameters, math, variants, chunk, commit } = &self.subject;
        let Size { prompt, tokens, parallel, depth } = row.size;
        let n = row.tokens() as f64;
        let speed = row.tokens_per_s();
        let per_token = |total: u64| total as f64 / n;
        let read = per_token(row.totals.bytes) * speed;
        let (n_prompt, n_gen) = if prompt { (tokens, 0) } else { (0, tokens) };
        json!({
            "model": model, "weights": weights, "math": math, "variants": variants, "chunk": chunk, "parameters": parameters,
            "weight_bytes": weight_bytes, "adapter": self.adapter.name, "backend": self.adapter.backend,
            "driver": self.adapter.driver, "commit": commit, "test": row.test, "n_prompt": n_prompt,
            "n_gen": n_gen, "n_parallel": parallel, "depth": depth, "sampling": row.sampling(),
            "tokens_per_s": speed, "tokens_per_s_sd": row.deviation(),
            "samples": row.speeds(), "ttft_ms": prompt.then(|| row.mean(|sample| sample.seconds) * 1e3),
            "bytes_per_token": per_token(row.totals.bytes), "read_gb_s": read / 1e9,
            "weight_gb_s": per_token(row.totals.weight_bytes) * speed / 1e9,
            "stream_gb_s": self.stream_bytes_per_s / 1e9, "share_of_stream": read / self.stream_bytes_per_s,
            "gflop_s": 2.0 * per_token(row.totals.macs) * speed / 1e9,
            "dispatches_per_token": row.totals.dispatches as f64 / n,
            "barriers_per_token": row.totals.barriers as f64 / n, "submits_per_token": row.totals.submits as f64 / n,
            "ms_per_token": row.ms_per_token(), "gpu_ms_per_token": row.gpu_ms_per_token(), "gpu_idle": row.gpu_idle(),
            "cpu_ms_per_token": row.mean(|sample| sample.host_seconds) * 1e3 / n, "gpu_bytes": row.gpu_bytes,
            "host_peak_bytes": self.host_peak_bytes, "schema": 2,
        })
    }

    /// A JSON array with one object per test.
    pub fn json(&self) -> Value {
        self.rows.iter().map(|row| self.fields(row)).collect()
    }

    /// CSV: a header, then one line per test; samples are separated by spaces.
    pub fn csv(&self) -> String {
        let mut text = COLUMNS.join(",") + "\n";
        for row in &self.rows {
            let fields = self.fields(row);
            let cell = |name: &&str| match &fields[*name] {
                Value::Null => String::new(),
                Value::Array(values) => values.iter().map(Value::to_string).collect::<Vec<_>>().join(" "),
                Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
                value => value.to_string(),
            };
            text += &(COLUMNS.iter().map(cell).collect::<Vec<_>>().join(",") + "\n");
        }
        text
    }

    /// The cost of sampling: one line per test that was run both greedily and sampled.
    fn costs_of_sampling(&self) -> String {
        let mut text = String::new();
        for sampled in self.rows.iter().filter(|row| row.sampled.is_some()) {
            let greedy = self.rows.iter().find(|row| row.sampled.is_none() && row.size == sampled.size);
            let Some(greedy) = greedy else { continue };
            let more = sampled.ms_per_token() - greedy.ms_per_token();
            let (how, test, share) =
                (sampled.sampling().unwrap_or_default(), &greedy.test, more / greedy.ms_per_token());
            text += &format!(
                "\nsampling ({how}) beside greedy, {test}: {:+.1} µs a token, {:+.1} %\n",
                more * 1e3,
                100.0 * share
            );
        }
        text
    }

    /// Markdown: llama-bench's table, a table of bytes per token and bandwidth, then the profiles.
    pub fn markdown(&self) -> String {
        let Subject { model, weights, weight_bytes, parameters, math, variants, chunk, commit } = &self.subject;
        let mut text =
            String::from("| model | size | params | backend | test | t/s |\n|---|---:|---:|---|---:|---:|\n");
        let size = bytes(*weight_bytes);
        for row in &self.rows {
            text += &format!(
                "| {model} {weights} | {size} | {} | {} | {} | {:.2} ± {:.2} |\n",
                count(*parameters),
                self.adapter.backend,
                row.test,
                row.tokens_per_s(),
                row.deviation()
            );
        }
        text += "\n| test | MB/token | GB/s | weights GB/s | of stream | GFLOP/s | first token ms | dispatches | barriers | submits | ms/token | GPU ms/token | GPU idle | host ms/token |\n\
                 |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        for row in &self.rows {
            let fields = self.fields(row);
            let number = |name: &str| fields[name].as_f64().unwrap_or(f64::NAN);
            let first = fields["ttft_ms"].as_f64().map_or_else(String::new, |ms| format!("{ms:.1}"));
            let busy = row.gpu_ms_per_token().map_or_else(String::new, |ms| format!("{ms:.3}"));
            let idle = row.gpu_idle().map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share));
            text += &format!(
                "| {} | {:.2} | {:.2} | {:.2} | {:.0} % | {:.1} | {first} | {:.1} | {:.1} | {:.2} | {:.3} | {busy} | {idle} | {:.3} |\n",
                row.test,
                number("bytes_per_token") / 1e6,
                number("read_gb_s"),
                number("weight_gb_s"),
                100.0 * number("share_of_stream"),
                number("gflop_s"),
                number("dispatches_per_token"),
                number("barriers_per_token"),
                number("submits_per_token"),
                row.ms_per_token(),
                number("cpu_ms_per_token"),
            );
        }
        text += &self.costs_of_sampling();
        for (what, kernels) in &self.profiles {
            text += &profile::markdown(what, kernels);
        }
        text += &format!("\n{}\n", self.adapter);
        text += &format!("math {math} · chunks of {chunk} tokens · {variants}\n");
        text += &format!("memory read at {:.2} GB/s at best · ", self.stream_bytes_per_s / 1e9);
        text += &format!("{} on the device", bytes(self.gpu_bytes));
        text +=
            &self.host_peak_bytes.map_or_else(String::new, |peak| format!(" · {} on the host at most", bytes(peak)));
        let commit = if commit.is_empty() { String::new() } else { format!(" · build {commit}") };
        text + &commit + "\n"
    }
}

fn bytes(n: u64) -> String {
    let mib = n as f64 / (1 << 20) as f64;
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}

fn count(n: u64) -> String {
    if n < 1_000_000_000 { format!("{:.2} M", n as f64 / 1e6) } else { format!("{:.2} B", n as f64 / 1e9) }
}
