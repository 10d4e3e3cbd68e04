//! `peregrine serve`: OpenAI's API over HTTP.

use super::byte_size::parse_bytes;
use super::chat::repl::signals::on_termination;
use super::exit::usage_error;
use super::model::ModelArgs;
use super::template::TemplateArgs;
use anyhow::Context;
use clap::{Args, ValueEnum};
use peregrine::Error;
use peregrine::runtime::{PrefixBudget, Reuse, SamplingDefaults, StateBudget};
use peregrine::server::{Keys, MetricNames, Server, ServerOptions, StatePlace};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;

#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    template: TemplateArgs,
    /// Address to listen on. One that other machines reach needs an API key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", env = "PEREGRINE_HOST")]
    host: IpAddr,
    /// Port to listen on; 0 for a free one, which the ready line on stdout names
    #[arg(long, value_name = "PORT", default_value_t = 8080, env = "PEREGRINE_PORT")]
    port: u16,
    /// Requests answered at a time; each takes a state on the device
    #[arg(long, value_name = "N", default_value_t = 8, visible_alias = "parallel", alias = "np")]
    slots: usize,
    /// API key that requests must have; repeat for several
    #[arg(long, value_name = "KEY", env = "PEREGRINE_API_KEY", hide_env_values = true)]
    api_key: Vec<String>,
    /// File of API keys, one per line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Serve other machines without an API key
    #[arg(long)]
    no_key: bool,
    /// Origin of web pages that may call the server, such as http://localhost:3000, or * for all; repeat for several
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Model name in responses [default: the checkpoint's]
    #[arg(short, long, value_name = "NAME")]
    alias: Option<String>,
    /// Requests that may wait for a slot; more get status 429
    #[arg(long, value_name = "N", default_value_t = 256)]
    queue: usize,
    /// Connections at a time; more clients wait to be accepted
    #[arg(long, value_name = "N", default_value_t = 1024)]
    connections: usize,
    /// Seconds that a client may leave a request half sent, or its response unread; then the connection is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Maximum size of a request body
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse_bytes)]
    max_body: u64,
    /// Maximum tokens of a request's prompts
    #[arg(long, value_name = "N")]
    max_prompt: Option<usize>,
    /// Maximum tokens of an answer whose request sets no limit; -1 for none
    #[arg(short = 'n', long = "predict", value_name = "N", default_value_t = 4096, allow_negative_numbers = true)]
    predict: i64,
    /// Folder of kept states, or s3://BUCKET/PREFIX; several servers may share it [default: memory]
    #[arg(long, value_name = "PLACE", value_parser = place_of_states)]
    states: Option<StatePlace>,
    /// Maximum bytes of kept states; the oldest are deleted
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_bytes)]
    state_budget: u64,
    /// Seconds that requests in progress may take after SIGTERM or Ctrl-C; then their states are saved
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// End when this process ends
    #[arg(long, value_name = "PID")]
    parent: Option<u32>,
    /// Metric names: own, or vllm for its names beside them
    #[arg(long, value_name = "NAMES", default_value = "own")]
    metrics_names: NamesArg,
    /// Format of log lines on stderr
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum NamesArg {
    Own,
    Vllm,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// How often the parent process is looked for.
const PARENT_CHECK: Duration = Duration::from_millis(500);

impl Serve {
    pub fn run(self) -> anyhow::Result<()> {
        self.start_log();
        let options = self.options()?;
        allow_descriptors(self.connections);
        let parent = self.parent.map(Parent::find).transpose()?;
        let mut checkpoint = self.model.checkpoint()?;
        self.template.apply(&mut checkpoint)?;
        checkpoint.tokenizer()?;
        checkpoint.sampling(&SamplingDefaults::default(), 0)?;
        let label = checkpoint.label().trim_end_matches(" (compiled in)");
        let options = ServerOptions { model: self.alias.clone().unwrap_or_else(|| label.to_owned()), ..options };
        let engine = self.model.load_slots(checkpoint, self.slots)?;
        let budget = StateBudget { host: 0, disk: 0, ..StateBudget::default() };
        engine.set_prefix_cache(PrefixBudget { bytes: budget.device / 2, reuse: Reuse::Read });
        engine.set_state_budget(budget)?;

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.context("cannot start the server's threads")?.block_on(async move {
            let server = Server::bind(engine, options).await?;
            let address = server.address()?;
            // One line that a program which started the server can wait for.
            println!(
                "{}",
                serde_json::json!({ "event": "ready", "url": format!("http://{address}"), "port": address.port() })
            );
            tracing::info!("listening on http://{address}");
            server.run(ending(parent)).await;
            Ok(())
        })
    }

    fn start_log(&self) {
        let level = if self.model.verbose { LevelFilter::DEBUG } else { LevelFilter::INFO };
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
        match self.log_format {
            LogFormat::Text => log.with_ansi(false).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
    }

    /// The options, but for the model's name.
    fn options(&self) -> anyhow::Result<ServerOptions> {
        let keys = self.keys()?;
        let address = SocketAddr::new(self.host, self.port);
        if !self.host.is_loopback() && keys.is_empty() && !self.no_key {
            return Err(usage_error(format!(
                "--host {} lets other machines use the server: give an --api-key, or --no-key if that is intended",
                self.host
            )));
        }
        let max_tokens = match self.predict {
            -1 => None,
            n => Some(usize::try_from(n).map_err(|_| usage_error("--predict must be -1 or a number of tokens"))?),
        };
        Ok(ServerOptions {
            address,
            keys: Keys::new(keys),
            open_to_all: self.no_key,
            origins: self.cors.clone(),
            queue: self.queue,
            connections: self.connections,
            patience: Duration::from_secs(self.timeout),
            max_body: usize::try_from(self.max_body).unwrap_or(usize::MAX),
            max_prompt: self.max_prompt,
            max_tokens,
            states: self.states.clone().unwrap_or(StatePlace::Memory),
            state_bytes: self.state_budget,
            drain: Duration::from_secs(self.drain),
            metric_names: match self.metrics_names {
                NamesArg::Own => MetricNames::Own,
                NamesArg::Vllm => MetricNames::Vllm,
            },
            ..ServerOptions::new("")
        })
    }

    fn keys(&self) -> anyhow::Result<Vec<String>> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let fail = |problem| Error::Io { doing: "read", path: path.clone(), problem };
            let text = std::fs::read_to_string(path).map_err(fail)?;
            keys.extend(text.lines().map(|line| line.trim().to_owned()));
        }
        keys.retain(|key| !key.is_empty());
        if keys.is_empty() && (self.api_key_file.is_some() || !self.api_key.is_empty()) {
            return Err(usage_error("the API key is empty"));
        }
        Ok(keys)
    }
}

fn place_of_states(text: &str) -> Result<StatePlace, std::convert::Infallible> {
    Ok(match text.starts_with("s3://") {
        true => StatePlace::Bucket(text.to_owned()),
        false => StatePlace::Folder(text.into()),
    })
}

/// Raises this process's limit of file descriptors, as far as the system allows, so that each connection can have one.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn allow_descriptors(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    /// File descriptors besides those of connections: the device, the model, the states in use.
    const OTHER_DESCRIPTORS: u64 = 128;
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(needed, |most| most.min(needed)));
    let raised = setrlimit(Resource::Nofile, limit);
    if raised.is_err() || limit.current.is_some_and(|current| current < needed) {
        tracing::warn!(needed, "the limit of open files (ulimit -n) is below what --connections needs");
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn allow_descriptors(_connections: usize) {}

/// A process that the server ends with.
#[derive(Clone, Copy)]
struct Parent(u32);

impl Parent {
    fn find(pid: u32) -> anyhow::Result<Self> {
        let parent = Parent(pid);
        match parent.lives() {
            Some(true) => Ok(parent),
            Some(false) => Err(usage_error(format!("--parent {pid}: there is no such process"))),
            None => Err(usage_error("--parent is not supported on this system")),
        }
    }

    /// Whether it still runs; `None` if the system cannot be asked.
    fn lives(self) -> Option<bool> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::process::{Pid, test_kill_process};
            let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw);
            // A process of another user lives too.
            Some(pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))))
        }
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        None
    }
}

/// Completes at SIGTERM, SIGHUP, Ctrl-C, or when the parent has ended. The second signal ends the program at once.
async fn ending(parent: Option<Parent>) {
    let (sender, mut signals) = tokio::sync::mpsc::unbounded_channel();
    let interrupted = sender.clone();
    // If no handler can be set, the signal's default action ends the program.
    let _ = ctrlc::set_handler(move || {
        let _ = interrupted.send("interrupt");
    });
    on_termination(move || {
        let _ = sender.send("termination");
    });
    let reason = loop {
        match tokio::time::timeout(PARENT_CHECK, signals.recv()).await {
            Ok(Some(signal)) => break signal,
            Ok(None) => std::future::pending().await,
            Err(_) if parent.is_some_and(|parent| parent.lives() == Some(false)) => break "end of the parent process",
            Err(_) => {}
        }
    };
    tracing::info!(reason, "shutting down: no new requests; those in progress may end");
    tokio::spawn(async move {
        if signals.recv().await.is_some() {
            std::process::exit(130);
        }
    });
}
