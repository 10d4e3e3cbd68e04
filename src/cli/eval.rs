//! `peregrine eval`: perplexity on a text, accuracy on questions or pictures, and the divergence from another model or weight format.

use super::chat::repl::screen::note;
use super::chat::repl::{MAX_LOSSES, reopened_message};
use super::interrupt::remove_files_on_signal;
use super::model::{ModelArgs, load_forward};
use super::vision;
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::eval::{
    Accuracy, LabelledPicture, Mean, Question, Rating, Reading, Report, Tally, WINDOW, add_windows, ask, rate,
};
use peregrine::gpu::Gpu;
use peregrine::kernels::linear::Math;
use peregrine::model::{Forward, ForwardOptions, Recipe};
use peregrine::runtime::Checkpoint;
use peregrine::text::{Specials, utf8};
use peregrine::vision::VisionOptions;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(group(clap::ArgGroup::new("task").required(true).multiple(true).args(["text", "questions", "pictures"])))]
pub struct Eval {
    #[command(flatten)]
    model: ModelArgs,
    /// Reference model to compare predictions with, as stored and in exact arithmetic [default with --weights or --math fast:
    /// the same model]
    #[arg(long, value_name = "MODEL", requires = "text")]
    against: Option<PathBuf>,
    /// Text file to score: perplexity, and KL divergence from the reference
    #[arg(short = 'f', long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Parse special tokens such as <|im_end|> in the text
    #[arg(long)]
    parse_special: bool,
    /// Window length in tokens: each window starts from a fresh state, and all but its first token are scored
    #[arg(long, value_name = "N", default_value_t = WINDOW)]
    ctx: usize,
    /// Read the text with decode steps, one token at a time, instead of prefill
    #[arg(long, requires = "text")]
    steps: bool,
    /// Maximum tokens of the text to use [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Questions to answer: a JSON object with "prompt" and "answer" per line
    #[arg(long, value_name = "FILE.jsonl")]
    questions: Option<PathBuf>,
    /// Pictures to classify: a file with a JSON object with "image" and "answer" per line, or a folder with a folder of pictures
    /// for each class; -m names a picture model [default: the built-in vim-digits]
    #[arg(long, value_name = "DIR|FILE.jsonl", conflicts_with_all = ["text", "questions"])]
    pictures: Option<PathBuf>,
    /// Questions answered at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    slots: usize,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The reference model and its label.
struct Against {
    label: String,
    forward: Forward,
}

/// What is evaluated, on an open device.
struct Models {
    gpu: Gpu,
    model: Forward,
    against: Option<Against>,
}

impl Eval {
    pub fn run(self) -> anyhow::Result<()> {
        remove_files_on_signal();
        if let Some(pictures) = &self.pictures {
            return self.rate_pictures(pictures);
        }
        // Fail on an unreadable file before loading anything.
        let text = self.text.as_deref().map(read_text).transpose()?;
        let questions = self.questions.as_deref().map(|path| {
            let text = read_text(path)?;
            anyhow::Ok(Question::read_all(&path.display().to_string(), &text)?)
        });
        let questions = questions.transpose()?;
        let checkpoint = self.model.checkpoint()?;
        let ids = text.as_deref().map(|text| self.encode(&checkpoint, text)).transpose()?;
        let gpu = self.model.device.open(self.model.verbose)?;
        let mut models = self.load(gpu, &checkpoint)?;
        let mut report = None;
        if let Some(ids) = &ids {
            let bar = bar(ids.len() - ids.len().div_ceil(self.ctx.max(1)), "tokens, perplexity");
            let how = (self.ctx, if self.steps { Reading::Steps } else { Reading::Chunks });
            let mut tally = Tally::default();
            models = self.insist(models, &checkpoint, |Models { model, against, .. }| {
                let reference = against.as_mut().map(|against| &mut against.forward);
                let outcome = add_windows(&mut tally, (model, reference), ids, how, &mut |tally| {
                    bar.set_position(tally.tokens() as u64);
                    bar.set_message(format!("{:.4}", tally.perplexity()));
                });
                (tally.tokens(), outcome)
            })?;
            bar.finish_and_clear();
            report = Some((ids.len(), tally.report()));
        }
        let mut accuracy = None;
        if let Some(questions) = &questions {
            let bar = bar(questions.len(), "questions, correct");
            let mut sum = Accuracy::default();
            models = self.insist(models, &checkpoint, |models| {
                let before = sum;
                let outcome = ask(&mut models.model, &checkpoint, &questions[before.asked..], &mut |more| {
                    sum = Accuracy { right: before.right + more.right, asked: before.asked + more.asked };
                    bar.set_position(sum.asked as u64);
                    bar.set_message(format!("{:.2} %", 100.0 * sum.share()));
                });
                (sum.asked, outcome.map(|_| ()))
            })?;
            bar.finish_and_clear();
            accuracy = Some(sum);
        }

        let Models { gpu, model, against } = models;
        let label = format!("{}, weights {}", checkpoint.label(), model.weights().formats());
        let against =
            against.map(|against| format!("{}, weights {}", against.label, against.forward.weights().formats()));
        let mut out = std::io::stdout().lock();
        if self.json {
            let text = report.as_ref().map(|(tokens, report)| self.text_json(*tokens, report, against.as_deref()));
            let questions = accuracy.map(|Accuracy { right, asked }| json!({ "right": right, "asked": asked }));
            let device = gpu.info().to_string();
            let json = json!({ "model": label, "device": device, "text": text, "questions": questions });
            writeln!(out, "{json:#}")?;
            return Ok(());
        }
        writeln!(out, "model          {label}")?;
        if let Some((tokens, report)) = &report {
            let windows = tokens.div_ceil(self.ctx);
            writeln!(out, "text           {} of {tokens} tokens scored, in {windows} windows", report.tokens)?;
            writeln!(out, "perplexity     {}", with_error(report.perplexity, 4))?;
            if let (Some(comparison), Some(label)) = (&report.comparison, against) {
                writeln!(out, "against        {label}")?;
                writeln!(out, "perplexity     {}", with_error(comparison.perplexity, 4))?;
                let Mean { value, error } = comparison.divergence;
                let (most, of_99) = (comparison.divergence_most, comparison.divergence_99);
                writeln!(
                    out,
                    "KL divergence  {value:.3e} ± {error:.1e}; 99th percentile {of_99:.3e}; maximum {most:.3e}"
                )?;
                let Mean { value, error } = comparison.agreement;
                writeln!(out, "same top-1     {:.3} ± {:.3} % of the tokens", 100.0 * value, 100.0 * error)?;
            }
        }
        if let Some(accuracy) = accuracy {
            writeln!(out, "questions      {:.2} % of {} correct", 100.0 * accuracy.share(), accuracy.asked)?;
        }
        Ok(())
    }

    /// Accuracy on pictures.
    fn rate_pictures(&self, from: &Path) -> anyhow::Result<()> {
        let pictures = LabelledPicture::read_all(from)?;
        let options = self.model.options();
        let options = VisionOptions::default().math(options.math).weights(options.weights).memory(options.memory);
        let checkpoint = vision::open(self.model.locate()?.as_deref())?;
        let gpu = self.model.device.open(self.model.verbose)?;
        let mut model = vision::load(&gpu, checkpoint, options, self.model.verbose)?;
        let bar = bar(pictures.len(), "pictures, correct");
        let rating = rate(&mut model, &pictures, &mut |so_far| {
            bar.set_position(so_far.asked as u64);
            bar.set_message(format!("{:.2} %", 100.0 * so_far.top_1 as f64 / so_far.asked as f64));
        });
        bar.finish_and_clear();
        let Rating { top_1, top_5, asked } = rating?;
        let label = format!("{}, weights {}", model.checkpoint().label(), model.formats());
        let mut out = std::io::stdout().lock();
        if self.json {
            let pictures = json!({ "top_1": top_1, "top_5": top_5, "asked": asked });
            let json = json!({ "model": label, "device": gpu.info().to_string(), "pictures": pictures });
            writeln!(out, "{json:#}")?;
            return Ok(());
        }
        let share = |right: usize| 100.0 * right as f64 / asked as f64;
        writeln!(out, "model          {label}")?;
        writeln!(out, "pictures       {:.2} % of {asked} correct, {:.2} % in the top 5", share(top_1), share(top_5))?;
        Ok(())
    }

    fn encode(&self, checkpoint: &Checkpoint, text: &str) -> anyhow::Result<Vec<u32>> {
        let specials = if self.parse_special { Specials::Parse } else { Specials::Literal };
        let mut ids = checkpoint.tokenizer()?.encode_text(text, specials)?;
        ids.truncate(self.limit.unwrap_or(usize::MAX));
        if ids.len() < 2 {
            return Err(peregrine::Error::TextTooShort { tokens: ids.len() }.into());
        }
        Ok(ids)
    }

    /// Loads the model, and its reference where a text is scored.
    fn load(&self, gpu: Gpu, checkpoint: &Checkpoint) -> anyhow::Result<Models> {
        let mut options = self.model.options();
        let against = if self.text.is_some() { self.reference(&gpu, checkpoint, options)? } else { None };
        // The reference takes its memory out of the budget.
        options.memory = options.memory.map(|bytes| bytes.saturating_sub(gpu.allocated_bytes()));
        if self.questions.is_some() {
            options.slots = self.slots;
        }
        let model = load_forward(&gpu, checkpoint, options, self.model.verbose)?;
        Ok(Models { gpu, model, against })
    }

    /// Does `what`, which tells how much is done. After each loss of the device reopens it, loads the models again and does the
    /// rest; gives up after [`MAX_LOSSES`] without any progress.
    fn insist(
        &self,
        models: Models,
        checkpoint: &Checkpoint,
        mut what: impl FnMut(&mut Models) -> (usize, peregrine::Result<()>),
    ) -> anyhow::Result<Models> {
        let (mut models, mut losses, mut done_before) = (models, 0, 0);
        loop {
            let (done, outcome) = what(&mut models);
            let lost = match outcome {
                Ok(()) => return Ok(models),
                Err(lost @ peregrine::Error::DeviceLost { .. }) => lost,
                Err(error) => return Err(error.into()),
            };
            losses = if done > done_before { 1 } else { losses + 1 };
            done_before = done;
            if losses > MAX_LOSSES {
                return Err(lost.into());
            }
            // The driver may still count the memory of the old models.
            let gpu = models.gpu.clone();
            drop(models);
            models = self.load(gpu.reopen()?, checkpoint)?;
            note(&reopened_message(&lost, &models.gpu.info().name));
        }
    }

    /// Loads the reference: the other model, or the same model as stored; `None` if there is nothing to compare.
    fn reference(
        &self,
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        options: ForwardOptions,
    ) -> anyhow::Result<Option<Against>> {
        let other = self.model.checkpoint.hub.locate_other(self.against.as_deref())?;
        let other = other.map(Checkpoint::open).transpose()?;
        let reference = match &other {
            Some(other) => other,
            None if options.weights != Recipe::AsStored || options.math != Math::Exact => checkpoint,
            None => return Ok(None),
        };
        let [model, other] = [checkpoint, reference].map(|checkpoint| checkpoint.config().vocab);
        if model != other {
            return Err(peregrine::Error::VocabulariesDiffer { model, reference: other }.into());
        }
        let options = options.weights(Recipe::AsStored).math(Math::Exact);
        let forward = load_forward(gpu, reference, options, self.model.verbose)?;
        Ok(Some(Against { label: reference.label().to_owned(), forward }))
    }

    fn text_json(&self, tokens: usize, report: &Report, against: Option<&str>) -> Value {
        let against = report.comparison.as_ref().map(|comparison| {
            json!({
                "model": against,
                "perplexity": comparison.perplexity.value, "perplexity_error": comparison.perplexity.error,
                "kl": comparison.divergence.value, "kl_error": comparison.divergence.error,
                "kl_99": comparison.divergence_99, "kl_most": comparison.divergence_most,
                "same_best": comparison.agreement.value, "same_best_error": comparison.agreement.error,
            })
        });
        json!({
            "tokens": tokens, "scored": report.tokens, "ctx": self.ctx, "steps": self.steps,
            "loss": report.loss.value, "loss_error": report.loss.error,
            "perplexity": report.perplexity.value, "perplexity_error": report.perplexity.error,
            "against": against,
        })
    }
}

fn with_error(mean: Mean, digits: usize) -> String {
    format!("{:.digits$} ± {:.digits$}", mean.value, mean.error)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(utf8(&path.display().to_string(), bytes)?)
}

/// A progress bar with the result so far, on a terminal.
fn bar(length: usize, what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = format!("{{bar:30}} {{pos}}/{{len}} {what} {{msg}}, {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("the template is valid");
    ProgressBar::new(length as u64).with_style(style)
}
