//! `peregrine batch`: answers a file of requests in the format of OpenAI's Batch API, one request per slot at a time.

mod journal;
mod line;

use super::chat::repl::reopened_message;
use super::force::ForceArgs;
use super::interrupt::Interrupt;
use super::model::ModelArgs;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use journal::{Journal, OldAnswers};
use line::{Line, Rejected, Reply};
use peregrine::Error;
use peregrine::openai::{Request, RequestDefaults};
use peregrine::runtime::{Engine, PrefixBudget, Reuse, Sampling, SamplingDefaults, StateBudget};
use std::collections::HashSet;
use std::io::{BufRead, Seek};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

#[derive(Args)]
pub struct Batch {
    #[command(flatten)]
    model: ModelArgs,
    /// Requests, one JSON object per line: custom_id, url (/v1/chat/completions or /v1/completions) and body; `-` reads stdin
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Answers, one per line in order of completion; `-` writes stdout. Requests that the file already answers are skipped, so
    /// the same command resumes an interrupted batch. --force starts over
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// Requests answered at a time
    #[arg(long, value_name = "N", default_value_t = 8, visible_alias = "parallel")]
    slots: usize,
    /// Maximum tokens of an answer whose request sets no limit
    #[arg(short = 'n', long = "predict", value_name = "N", default_value_t = 1024)]
    predict: usize,
}

/// State shared by the workers.
struct Work<'a> {
    engine: &'a Engine,
    predict: usize,
    lines: Mutex<Lines>,
    journal: Mutex<Journal>,
    bar: ProgressBar,
    interrupt: Interrupt,
    tokens: AtomicU64,
    failed: AtomicU64,
    /// Device losses since the last answer.
    losses: AtomicU64,
    started: Instant,
}

/// Consecutive device losses after which a batch gives up.
const MAX_LOSSES: u64 = 3;

/// The input, read line by line.
struct Lines {
    input: Box<dyn BufRead + Send>,
    /// Number of the last line read, from 1.
    number: usize,
    /// The custom_ids read so far.
    seen: HashSet<String>,
}

impl Batch {
    pub fn run(self) -> anyhow::Result<()> {
        let (input, total) = self.open_input()?;
        let old = if self.force.is_given() { OldAnswers::Replace } else { OldAnswers::Keep };
        let mut journal = Journal::open(&self.output, &self.input, old)?;
        let answered = journal.len();
        let checkpoint = self.model.checkpoint()?;
        checkpoint.tokenizer()?;
        checkpoint.sampling(&SamplingDefaults::default(), 0)?;
        let engine = self.model.load_slots(checkpoint, self.slots)?;
        // Requests often share a prefix. States that do not fit on the device are dropped: reading a prefix again is faster than
        // moving its state.
        let budget = StateBudget { host: 0, disk: 0, ..StateBudget::default() };
        engine.set_prefix_cache(PrefixBudget { bytes: budget.device / 2, reuse: Reuse::Read });
        engine.set_state_budget(budget)?;
        // Everything that can fail early is done: only now is the output changed.
        journal.start()?;

        let interrupt = Interrupt::default();
        interrupt.listen();
        let work = Work {
            engine: &engine,
            predict: self.predict,
            lines: Mutex::new(Lines { input, number: 0, seen: HashSet::new() }),
            journal: Mutex::new(journal),
            bar: bar(total),
            interrupt: interrupt.clone(),
            tokens: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            started: Instant::now(),
        };
        let outcomes: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.slots)
                .map(|worker| {
                    scope.spawn({
                        let work = &work;
                        move || work.run(worker)
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
        });
        work.bar.finish_and_clear();
        let seconds = work.started.elapsed().as_secs_f64();
        let (tokens, failed) = (work.tokens.into_inner(), work.failed.into_inner());
        let done = lock(&work.journal).len() - answered;
        eprintln!(
            "{done} answered ({failed} with an error), {answered} skipped; {tokens} tokens in {seconds:.1} s, {:.1} t/s",
            tokens as f64 / seconds.max(1e-9)
        );
        let prefix = engine.prefix_stats();
        if self.model.verbose && prefix.hits > 0 {
            eprintln!("prefix cache: {} hits, {} tokens saved", prefix.hits, prefix.tokens_saved);
        }
        outcomes.into_iter().collect::<anyhow::Result<()>>()?;
        if interrupt.hit() {
            if self.output.as_os_str() != "-" {
                eprintln!("interrupted; run the same command again to resume");
            }
            return Err(Error::Cancelled.into());
        }
        Ok(())
    }

    /// The input and its number of requests, if known.
    fn open_input(&self) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
        if self.input.as_os_str() == "-" {
            return Ok((Box::new(std::io::BufReader::new(std::io::stdin())), None));
        }
        let fail = |problem| Error::Io { doing: "read", path: self.input.clone(), problem };
        let mut file = std::fs::File::open(&self.input).map_err(fail)?;
        let mut reader = std::io::BufReader::new(&file);
        let (mut lines, mut line) = (0, Vec::new());
        while reader.read_until(b'\n', &mut line).map_err(fail)? > 0 {
            lines += u64::from(!line.trim_ascii().is_empty());
            line.clear();
        }
        // A pipe cannot be rewound: this is an error.
        file.rewind().map_err(fail)?;
        Ok((Box::new(std::io::BufReader::new(file)), Some(lines)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn bar(total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) => {
            let style =
                ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta}").expect("the template is valid");
            ProgressBar::new(total).with_style(style)
        }
        None => {
            let style = ProgressStyle::with_template("{spinner} {pos} {msg}").expect("the template is valid");
            ProgressBar::new_spinner().with_style(style)
        }
    }
}

impl Work<'_> {
    /// Answers requests until the input ends. An error stops the other workers too.
    fn run(&self, worker: usize) -> anyhow::Result<()> {
        let outcome = self.answer_all(worker);
        if outcome.is_err() {
            // Fatal errors, such as a lost device or a full disk, affect all workers.
            self.interrupt.stop();
        }
        outcome
    }

    fn answer_all(&self, worker: usize) -> anyhow::Result<()> {
        while let Some(line) = self.next_line()? {
            let reply = match line.request {
                Err(ref rejected) => Some(line.rejected(rejected)),
                Ok(ref request) => self.answer(worker, &line, request)?,
            };
            // An interrupted request has no reply.
            let Some(Reply { line, tokens, failed }) = reply else { return Ok(()) };
            lock(&self.journal).write(&line)?;
            self.losses.store(0, Ordering::Relaxed);
            let tokens = self.tokens.fetch_add(tokens, Ordering::Relaxed) + tokens;
            let failed = self.failed.fetch_add(u64::from(failed), Ordering::Relaxed) + u64::from(failed);
            let speed = tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
            self.bar.set_message(match failed {
                0 => format!("{speed:.1} t/s"),
                failed => format!("{speed:.1} t/s, {failed} with an error"),
            });
            self.bar.inc(1);
        }
        Ok(())
    }

    /// Answers one request; `None` if interrupted. An error of this request alone becomes its reply; an error that affects all
    /// requests is returned.
    fn answer(&self, worker: usize, line: &Line, request: &Request) -> anyhow::Result<Option<Reply>> {
        let checkpoint = self.engine.checkpoint();
        if let Err(error) = request.fits(checkpoint) {
            return Ok(Some(line.rejected(&Rejected::Request(error))));
        }
        let defaults = RequestDefaults { max_tokens: Some(self.predict), seed: line.number as u64 };
        loop {
            let answered = self.engine.session(Sampling::GREEDY).and_then(|mut session| {
                self.interrupt.cancels(worker, session.cancel_handle());
                request.answer(&mut session, defaults)
            });
            match answered {
                _ if self.interrupt.hit() => return Ok(None),
                Ok(answered) => return Ok(Some(line.done(request.endpoint(), &answered, checkpoint)?)),
                // The retry has the same seed and gives the same answer.
                Err(error @ Error::DeviceLost { .. }) => self.recover(error)?,
                Err(error) if is_fatal(&error) => return Err(error.into()),
                Err(error) => return Ok(Some(line.failed(&error))),
            }
        }
    }

    /// Reopens the device after its loss; gives up after [`MAX_LOSSES`] in a row.
    fn recover(&self, lost: Error) -> anyhow::Result<()> {
        if self.losses.load(Ordering::Relaxed) >= MAX_LOSSES {
            return Err(lost.into());
        }
        if self.engine.recover(&mut |_| {})? {
            self.losses.fetch_add(1, Ordering::Relaxed);
            let adapter = self.engine.gpu().info().name.clone();
            self.bar.suspend(|| eprintln!("{}", reopened_message(&lost, &adapter)));
        }
        Ok(())
    }

    /// The next unanswered request; `None` at the end of the input or after an interrupt.
    fn next_line(&self) -> anyhow::Result<Option<Line>> {
        let mut lines = lock(&self.lines);
        loop {
            if self.interrupt.hit() {
                return Ok(None);
            }
            let mut text = Vec::new();
            let fail = |problem| Error::Io { doing: "read", path: "the requests".into(), problem };
            if lines.input.read_until(b'\n', &mut text).map_err(fail)? == 0 {
                return Ok(None);
            }
            lines.number += 1;
            if text.trim_ascii().is_empty() {
                continue;
            }
            let line = Line::parse(lines.number, &text);
            let line = match &line.custom_id {
                Some(id) if !lines.seen.insert(id.clone()) => line.repeated(),
                _ => line,
            };
            if lock(&self.journal).has(&line) {
                self.bar.inc(1);
                continue;
            }
            return Ok(Some(line));
        }
    }
}

/// Whether an error affects all requests.
fn is_fatal(error: &Error) -> bool {
    matches!(error, Error::DeviceLost { .. } | Error::Gpu { .. } | Error::OutOfMemory { .. } | Error::Timeout { .. })
}
