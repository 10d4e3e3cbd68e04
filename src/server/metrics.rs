//! Metrics in Prometheus' text format.

use crate::openai::Event;
use crate::runtime::Engine;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Names of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricNames {
    /// `peregrine_requests_waiting` and so on.
    Own,
    /// Beside them, the three of vLLM that autoscalers and gateways read.
    Vllm,
}

/// Counts and times of a server.
pub(super) struct Metrics {
    registry: Registry,
    waiting: Gauge,
    running: Gauge,
    slots: Gauge,
    device_bytes: Gauge,
    share: Gauge<f64, AtomicU64>,
    prefix_hits: Gauge,
    prompt_tokens: Counter,
    tokens: Counter,
    answers: Counter,
    losses: Counter,
    wait: Histogram,
    first_token: Histogram,
    between_tokens: Histogram,
}

impl Metrics {
    pub(super) fn new(names: MetricNames) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let mut metrics = Metrics {
            registry: Registry::default(),
            waiting: Gauge::default(),
            running: Gauge::default(),
            slots: Gauge::default(),
            device_bytes: Gauge::default(),
            share: Gauge::default(),
            prefix_hits: Gauge::default(),
            prompt_tokens: Counter::default(),
            tokens: Counter::default(),
            answers: Counter::default(),
            losses: Counter::default(),
            wait: seconds(),
            first_token: seconds(),
            between_tokens: seconds(),
        };
        metrics.register(names);
        metrics
    }

    fn register(&mut self, names: MetricNames) {
        let all = self.registry.sub_registry_with_prefix("peregrine");
        all.register("requests_waiting", "Requests in the queue", self.waiting.clone());
        all.register("requests_running", "Requests in progress, each in a slot", self.running.clone());
        all.register("slots", "Slots of the engine", self.slots.clone());
        all.register("slots_used_ratio", "Share of the slots in use", self.share.clone());
        all.register("device_bytes", "Bytes allocated on the device", self.device_bytes.clone());
        all.register("prefix_hits", "Prompts that began from a cached state", self.prefix_hits.clone());
        all.register("prompt_tokens", "Tokens of prompts read", self.prompt_tokens.clone());
        all.register("generated_tokens", "Tokens generated", self.tokens.clone());
        all.register("answers", "Answers completed", self.answers.clone());
        all.register("device_losses", "Losses of the device", self.losses.clone());
        all.register("queue_seconds", "Time in the queue", self.wait.clone());
        all.register("first_token_seconds", "Time from the request to its first text", self.first_token.clone());
        all.register("between_tokens_seconds", "Time between two pieces of an answer", self.between_tokens.clone());
        if names == MetricNames::Vllm {
            let all = &mut self.registry;
            all.register("vllm:num_requests_waiting", "Requests in the queue", self.waiting.clone());
            all.register("vllm:num_requests_running", "Requests in progress", self.running.clone());
            all.register("vllm:kv_cache_usage_perc", "Share of the slots in use", self.share.clone());
        }
    }

    /// The time of a request in the queue.
    pub(super) fn waited(&self, time: Duration) {
        self.wait.observe(time.as_secs_f64());
    }

    pub(super) fn lost_device(&self) {
        self.losses.inc();
    }

    /// The text that Prometheus reads. `(waiting, running)` are the numbers of jobs.
    pub(super) fn text(&self, engine: &Engine, (waiting, running): (usize, usize)) -> Result<String, std::fmt::Error> {
        let slots = engine.slots();
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.waiting.set(whole(waiting as u64));
        self.running.set(whole(running as u64));
        self.slots.set(whole(slots as u64));
        self.share.set(running as f64 / slots as f64);
        self.device_bytes.set(whole(engine.gpu().allocated_bytes()));
        self.prefix_hits.set(whole(engine.prefix_stats().hits));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Times of one answer.
pub(super) struct Pace<'a> {
    metrics: &'a Metrics,
    /// When the request came, then when the last text was made.
    last: Instant,
    first: bool,
}

impl<'a> Pace<'a> {
    pub(super) fn new(metrics: &'a Metrics, queued: Instant) -> Self {
        Pace { metrics, last: queued, first: true }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Read(tokens) => drop(self.metrics.prompt_tokens.inc_by(*tokens)),
            Event::Ended { tokens, .. } => {
                self.metrics.tokens.inc_by(*tokens);
                self.metrics.answers.inc();
            }
            Event::Echo { .. } | Event::Piece { .. } | Event::Call { .. } => {
                let now = Instant::now();
                let time = now.duration_since(std::mem::replace(&mut self.last, now)).as_secs_f64();
                let histogram = if std::mem::take(&mut self.first) {
                    &self.metrics.first_token
                } else {
                    &self.metrics.between_tokens
                };
                histogram.observe(time);
            }
        }
    }
}
