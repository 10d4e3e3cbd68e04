//! `peregrine batch`: many requests from a file, as many at once as there are slots. The lines are those of OpenAI's Batch API.

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
    /// Requests, one JSON object a line: custom_id, url (/v1/chat/completions or /v1/completions) and body; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Where the answers go, a line each in order of completion; `-` is stdout. Requests that the file answers already are left
    /// out: run the same command again to go on with what was interrupted. With --force it begins anew
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// Requests worked on at once
    #[arg(long, value_name = "N", default_value_t = 8, visible_alias = "parallel")]
    slots: usize,
    /// Tokens of an answer at most, where its request does not say
    #[arg(short = 'n', long = "predict", value_name = "N", default_value_t = 1024)]
    predict: usize,
}

/// What the workers share.
struct Work<'a> {
    engine: &'a Engine,
    predict: usize,
    lines: Mutex<Lines>,
    journal: Mutex<Journal>,
    bar: ProgressBar,
    interrupt: Interrupt,
    tokens: AtomicU64,
    failed: AtomicU64,
    /// Losses of the device since the last answer.
    losses: AtomicU64,
    started: Instant,
}

/// Losses of the device in a row with which a batch goes on.
const MAX_LOSSES: u64 = 3;

/// The input as it is read.
struct Lines {
    input: Box<dyn BufRead + Send>,
    number: usize,
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
        // Requests often begin with the same instructions. What has no room on the device is read anew, which takes less than
        // moving it.
        let budget = StateBudget { host: 0, disk: 0, ..StateBudget::default() };
        engine.set_prefix_cache(PrefixBudget { bytes: budget.device / 2, reuse: Reuse::Read });
        engine.set_state_budget(budget)?;
        // Only now, when nothing of the above can fail any more, is the output touched.
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
            "{done} answered ({failed} with an error), {answered} were before; {tokens} tokens in {seconds:.1} s, {:.1} t/s",
            tokens as f64 / seconds.max(1e-9)
        );
        let beginnings = engine.prefix_stats();
        if self.model.verbose && beginnings.hits > 0 {
            let prefix = "prompts began as an earlier one:";
            eprintln!("{} {prefix} {} tokens were not read again", beginnings.hits, beginnings.tokens_saved);
        }
        outcomes.into_iter().collect::<anyhow::Result<()>>()?;
        if interrupt.hit() {
            if self.output.as_os_str() != "-" {
                eprintln!("stopped; the same command goes on");
            }
            return Err(Error::Cancelled.into());
        }
        Ok(())
    }

    /// The input, and how many lines it has where that can be known.
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
        // A pipe cannot be read twice; it has no length either.
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
                ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta}").expect("the template is sound");
            ProgressBar::new(total).with_style(style)
        }
        None => {
            let style = ProgressStyle::with_template("{spinner} {pos} {msg}").expect("the template is sound");
            ProgressBar::new_spinner().with_style(style)
        }
    }
}

impl Work<'_> {
    /// Answers requests until there are no more.
    fn run(&self, worker: usize) -> anyhow::Result<()> {
        let outcome = self.answer_all(worker);
        if outcome.is_err() {
            // What one worker cannot go on after, such as a lost device or a full disk, no other can.
            self.interrupt.stop();
        }
        outcome
    }

    fn answer_all(&self, worker: usize) -> anyhow::Result<()> {
        while let Some(line) = self.next_line()? {
            let reply = match line.request {
                Err(ref refusal) => Some(line.refused(refusal)),
                Ok(ref request) => self.answer(worker, &line, request)?,
            };
            // Nothing was said where it was cut off.
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

    /// Has a request answered; nothing where it was stopped. What goes wrong with it alone is its answer, and what ends the work
    /// for all is an error.
    fn answer(&self, worker: usize, line: &Line, request: &Request) -> anyhow::Result<Option<Reply>> {
        let checkpoint = self.engine.checkpoint();
        if let Err(refusal) = request.fits(checkpoint) {
            return Ok(Some(line.refused(&Rejected::Request(refusal))));
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
                // The same seed gives the same answer.
                Err(error @ Error::DeviceLost { .. }) => self.recover(error)?,
                Err(error) if ends_the_work(&error) => return Err(error.into()),
                Err(error) => return Ok(Some(line.failed(&error))),
            }
        }
    }

    /// Opens the device again after its loss, unless that does not help.
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

    /// The next request that has no answer yet.
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

/// Whether what one request met with is met by all.
fn ends_the_work(error: &Error) -> bool {
    matches!(error, Error::DeviceLost { .. } | Error::Gpu { .. } | Error::OutOfMemory { .. } | Error::Timeout { .. })
}
