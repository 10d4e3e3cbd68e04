//! Very long texts: speed and memory at each doubling of the length, first as a prompt, then as an answer.

use super::host_peak_bytes;
use super::report::Subject;
use crate::error::Result;
use crate::gpu::{AdapterInfo, Gpu};
use crate::model::{Config, Forward};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Instant;

/// The first length to report.
const FIRST: u64 = 1 << 10;

/// Speed and memory up to a length.
#[derive(Debug, Clone, PartialEq)]
pub struct Length {
    /// Whether the tokens were a prompt; else they were generated.
    pub prompt: bool,
    /// Tokens from the start.
    pub tokens: u64,
    /// Tokens per second from the start.
    pub tokens_per_s: f64,
    /// Bytes on the device, weights included.
    pub gpu_bytes: u64,
    /// Peak resident memory of the process until then, if the system reports it.
    pub host_peak_bytes: Option<u64>,
}

/// Results for a long prompt and a long answer.
#[derive(Debug, Clone)]
pub struct Longest {
    /// The model.
    pub subject: Subject,
    /// The adapter.
    pub adapter: AdapterInfo,
    /// The lengths reported.
    pub lengths: Vec<Length>,
    /// Bytes per token of a transformer's keys and values: see [`key_value_bytes`].
    pub key_value_bytes: u64,
}

/// Bytes per token of the key-value cache of a transformer with the same width and one attention and MLP layer for every two layers of
/// this model, the pairing of the Mamba paper: keys and values in f16, each as wide as the stream. With grouped-query attention of four
/// queries, as in Llama 3 8B, it is a quarter.
pub fn key_value_bytes(config: &Config) -> u64 {
    (2 * config.layers.div_ceil(2) * config.hidden * 2) as u64
}

/// Reads a prompt of `prompt` tokens and generates `generate`, each from an empty state, on the first slot of a model that nothing else
/// uses. The text is never held beyond one chunk. `see` is called with each length.
pub fn longest(
    forward: &mut Forward,
    subject: Subject,
    (prompt, generate): (u64, u64),
    see: &mut dyn FnMut(&Length),
) -> Result<Longest> {
    let (adapter, config) = (forward.gpu().info().clone(), forward.config().clone());
    let mut lengths = Vec::new();
    for (reads, most) in [(true, prompt), (false, generate)] {
        let mut walk = Walk::begin(forward, reads)?;
        let marks = std::iter::successors(Some(FIRST), |mark| Some(mark * 2)).take_while(|mark| *mark < most);
        for mark in marks.chain([most].into_iter().filter(|most| *most > 0)) {
            walk.go_to(mark)?;
            let length = walk.length();
            see(&length);
            lengths.push(length);
        }
    }
    Ok(Longest { subject, adapter, lengths, key_value_bytes: key_value_bytes(&config) })
}

/// Progress through a text.
struct Walk<'a> {
    forward: &'a mut Forward,
    gpu: Gpu,
    reads: bool,
    done: u64,
    seconds: f64,
}

impl<'a> Walk<'a> {
    fn begin(forward: &'a mut Forward, reads: bool) -> Result<Self> {
        let gpu = forward.gpu().clone();
        let mut walk = Walk { forward, gpu, reads, done: 0, seconds: 0.0 };
        // Kernels that are compiled on first use are not measured.
        walk.go_to(4)?;
        walk.forward.reset(0)?;
        (walk.done, walk.seconds) = (0, 0.0);
        Ok(walk)
    }

    fn length(&self) -> Length {
        Length {
            prompt: self.reads,
            tokens: self.done,
            tokens_per_s: self.done as f64 / self.seconds,
            gpu_bytes: self.gpu.allocated_bytes(),
            host_peak_bytes: host_peak_bytes(),
        }
    }

    fn go_to(&mut self, mark: u64) -> Result<()> {
        let started = Instant::now();
        if self.reads {
            self.read(mark)?
        } else {
            self.generate(mark)?
        }
        self.gpu.flush()?;
        self.seconds += started.elapsed().as_secs_f64();
        self.done = mark;
        Ok(())
    }

    fn read(&mut self, mark: u64) -> Result<()> {
        let (chunk, vocab) = (self.forward.chunk() as u64, self.forward.config().vocab as u64);
        let mut ids = Vec::with_capacity(self.forward.chunk());
        for first in (self.done..mark).step_by(self.forward.chunk()) {
            ids.clear();
            ids.extend(
                (first..mark.min(first + chunk)).map(|at| (at.wrapping_mul(7919).wrapping_add(11) % vocab) as u32),
            );
            pollster::block_on(self.forward.feed(0, &ids))?;
        }
        Ok(())
    }

    fn generate(&mut self, mark: u64) -> Result<()> {
        if self.done == 0 {
            self.forward.set_next(0, 11 % self.forward.config().vocab as u32)?;
        }
        self.forward.set_decoding(&[0])?;
        let mut under_way = VecDeque::new();
        for _ in self.done..mark {
            under_way.push_back(self.forward.step()?);
            if under_way.len() > self.forward.run_ahead() {
                let first = under_way.pop_front().expect("a step is under way");
                pollster::block_on(self.forward.chosen(first))?;
            }
        }
        for step in under_way {
            pollster::block_on(self.forward.chosen(step))?;
        }
        Ok(())
    }
}

impl Longest {
    /// Bytes on the device other than weights: state, activations, tables.
    pub fn working_bytes(&self, length: &Length) -> u64 {
        length.gpu_bytes.saturating_sub(self.subject.weight_bytes)
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let mut text = String::from(
            "| text | tokens | t/s | on the device, MB | besides weights, MB | host peak, MB | keys and values of a transformer, MB |\n\
             |---|---:|---:|---:|---:|---:|---:|\n",
        );
        for length in &self.lengths {
            let peak = length.host_peak_bytes.map_or("-".to_owned(), mb);
            let text_is = if length.prompt { "prompt" } else { "answer" };
            let (all, working) = (mb(length.gpu_bytes), mb(self.working_bytes(length)));
            let (tokens, speed) = (length.tokens, length.tokens_per_s);
            let cache = mb(tokens * self.key_value_bytes);
            let _ = writeln!(text, "| {text_is} | {tokens} | {speed:.1} | {all} | {working} | {peak} | {cache} |");
        }
        let Subject { model, weights, commit, .. } = &self.subject;
        let per_token = self.key_value_bytes;
        let _ = writeln!(
            text,
            "\n{model} {weights} on {}, commit {commit}. The transformer is one of the same width with a layer for every two of \
             these, keys and values in f16: {per_token} bytes a token, a quarter of that where four queries share them.",
            self.adapter
        );
        text
    }

    /// JSON.
    pub fn json(&self) -> Value {
        let lengths = self.lengths.iter().map(|length| {
            json!({
                "text": if length.prompt { "prompt" } else { "answer" }, "tokens": length.tokens,
                "tokens_per_s": length.tokens_per_s, "gpu_bytes": length.gpu_bytes,
                "working_bytes": self.working_bytes(length), "host_peak_bytes": length.host_peak_bytes,
                "key_value_bytes": length.tokens * self.key_value_bytes,
            })
        });
        json!({
            "model": self.subject.model, "weights": self.subject.weights, "commit": self.subject.commit,
            "adapter": self.adapter.to_string(), "lengths": lengths.collect::<Vec<_>>(),
        })
    }
}
