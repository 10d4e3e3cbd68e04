//! `peregrine classify`: the most probable classes of pictures.

use super::pictures::{self, Source};
use super::{VisionArgs, bar};
use crate::cli::exit::usage_error;
use anyhow::{Context, bail};
use clap::Args;
use peregrine::vision::{Class, Picture};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Pictures that are opened at a time: several batches, so that their memory is bounded.
const AT_A_TIME: usize = 64;

#[derive(Args)]
pub struct Classify {
    /// Pictures: files (JPEG, PNG, WebP, GIF, BMP), folders, patterns, or - for standard input
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    vision: VisionArgs,
    /// Classes to print for each picture
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Names of the classes, one per line [default: those of the model, or ImageNet's where it has 1000]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Print a JSON object per picture, one per line
    #[arg(long)]
    json: bool,
}

impl Classify {
    pub fn run(self) -> anyhow::Result<()> {
        if self.top == 0 {
            return Err(usage_error("--top must be at least 1"));
        }
        let sources = pictures::list(&self.pictures)?;
        let labels = self.labels.as_deref().map(|path| {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            anyhow::Ok(text.lines().map(str::to_owned).collect::<Vec<_>>())
        });
        let labels = labels.transpose()?;
        let mut model = self.vision.load()?;
        let classes = model.vim().classes;
        if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != classes) {
            return Err(usage_error(format!("--labels has {} lines, the model has {classes} classes", labels.len())));
        }
        let name = |class: &Class| match &labels {
            Some(labels) => labels[class.index].clone(),
            None => class.name.clone(),
        };
        let widest = sources.iter().map(|source| source.name().chars().count()).max().unwrap_or(0).min(60);
        let bar = bar(sources.len());
        let (started, mut failed) = (Instant::now(), 0);
        for sources in sources.chunks(AT_A_TIME) {
            let mut read: Vec<(&Source, Picture)> = Vec::with_capacity(sources.len());
            for (source, picture) in sources.iter().zip(pictures::open(sources)) {
                match picture {
                    Ok(picture) => read.push((source, picture)),
                    Err(error) => {
                        failed += 1;
                        bar.suspend(|| eprintln!("error: {error}"));
                    }
                }
            }
            let (sources, opened): (Vec<&Source>, Vec<Picture>) = read.into_iter().unzip();
            let before = bar.position();
            let found = model.classify(&opened, self.top, &mut |done| bar.set_position(before + done as u64))?;
            let print = || -> std::io::Result<()> {
                let mut out = std::io::stdout().lock();
                for (source, classes) in sources.iter().zip(&found) {
                    let picture = source.name();
                    if self.json {
                        let classes: Vec<_> = classes
                            .iter()
                            .map(|class| {
                                let (probability, logit) = (class.probability, class.logit);
                                json!({ "class": class.index, "name": name(class), "probability": probability, "logit": logit })
                            })
                            .collect();
                        writeln!(out, "{}", json!({ "picture": picture, "classes": classes }))?;
                        continue;
                    }
                    let shares =
                        classes.iter().map(|class| format!("{} {:.1} %", name(class), 100.0 * class.probability));
                    writeln!(out, "{picture:widest$}  {}", shares.collect::<Vec<_>>().join(", "))?;
                }
                out.flush()
            };
            bar.suspend(print)?;
        }
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        let done = sources.len() - failed;
        if done > 1 {
            eprintln!("{done} pictures in {seconds:.2} s, {:.1} a second", done as f64 / seconds);
        }
        if failed > 0 {
            bail!("{failed} of {} pictures could not be read", sources.len());
        }
        Ok(())
    }
}
