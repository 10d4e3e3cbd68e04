//! Models by name: the arguments that name one, and its download with a progress bar.

use super::exit::usage_error;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use peregrine::hub::{Choice, Event, Fetched, Hub, HubSettings, ModelName};
use peregrine::model::Bytes;
use peregrine::vision::VisionCheckpoint;
use peregrine::{Checkpoint, Result};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// A model on the Hugging Face hub.
#[derive(Args)]
pub struct HubArgs {
    /// Model on the Hugging Face hub, fetched once into its cache: user/repo, user/repo:Q4_K_M, user/repo:file.gguf,
    /// user/repo@revision, or a short name such as falcon-mamba-7b (see `peregrine models`), which -m takes too; also -hf
    #[arg(long, visible_alias = "hf", value_name = "NAME")]
    hf_repo: Option<String>,
    /// File of the repository; also -hff
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    hf_file: Option<String>,
    /// Branch, tag or commit of the repository [default: main]
    #[arg(long, value_name = "REVISION", hide_short_help = true)]
    hf_revision: Option<String>,
    /// Use what the cache has, without the network; so does HF_HUB_OFFLINE=1
    #[arg(long, hide_short_help = true)]
    offline: bool,
}

impl HubArgs {
    /// The path of the model: of the one that -hf or a short name after -m names, which is fetched into the cache, else `model`.
    /// -hf overrides a model of the environment.
    pub fn locate(&self, model: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
        let name = match (&self.hf_repo, model) {
            (Some(_), Some(model)) if std::env::var_os("PEREGRINE_MODEL").is_none_or(|of_env| model != of_env) => {
                return Err(usage_error("-m and -hf both name a model: leave out one of them"));
            }
            (Some(name), _) => name,
            (None, Some(model)) => match short_name(model) {
                Some(name) => name,
                None => return self.refuse_unused().map(|()| Some(model.to_owned())),
            },
            (None, None) => return self.refuse_unused().map(|()| None),
        };
        let mut name = ModelName::parse(name)?;
        if let Some(revision) = &self.hf_revision {
            name = name.at(revision)?;
        }
        if let Some(file) = &self.hf_file {
            if name.choice != Choice::Default {
                return Err(usage_error("the name has a file already: leave out --hf-file"));
            }
            name.choice = Choice::of(file);
        }
        self.fetch(&name).map(Some)
    }

    /// The path of a second model: a path, or a short name.
    pub fn locate_other(&self, model: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
        match model.and_then(short_name) {
            Some(name) => self.fetch(&ModelName::parse(name)?).map(Some),
            None => Ok(model.map(Path::to_owned)),
        }
    }

    fn refuse_unused(&self) -> anyhow::Result<()> {
        if self.hf_file.is_some() || self.hf_revision.is_some() {
            return Err(usage_error("--hf-file and --hf-revision need a model of the hub: -hf user/repo"));
        }
        Ok(())
    }

    fn fetch(&self, name: &ModelName) -> anyhow::Result<PathBuf> {
        let mut settings = HubSettings::from_env()?;
        settings.offline |= self.offline;
        let hub = Hub::new(settings)?;
        let mut bar = DownloadBar::default();
        let fetched = hub.fetch(name, &runs_here, &mut |event| bar.show(&name.repo, event));
        bar.finish();
        let Fetched { path, repo, commit, .. } = fetched?;
        eprintln!("{repo} at revision {commit}");
        Ok(path)
    }
}

/// A short name after -m, unless a path is called like this.
fn short_name(model: &Path) -> Option<&str> {
    model.to_str().filter(|name| ModelName::is_short(name) && !model.exists())
}

/// Refuses a model of an architecture that peregrine does not run, before its weights are fetched.
fn runs_here(dir: &Path) -> Result<()> {
    if VisionCheckpoint::is_at(dir) { Ok(()) } else { Checkpoint::check_architecture(dir) }
}

/// A progress bar on a terminal, else a line at the beginning.
#[derive(Default)]
struct DownloadBar {
    bar: Option<ProgressBar>,
    /// Bytes that were announced, where there is no terminal.
    announced: u64,
}

impl DownloadBar {
    fn show(&mut self, repo: &str, event: Event<'_>) {
        match event {
            Event::Progress { file, done, total } if std::io::stderr().is_terminal() => {
                let bar = self.bar.get_or_insert_with(|| {
                    let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
                    let style = ProgressStyle::with_template(style).expect("the template is valid");
                    let bar = ProgressBar::new(total).with_style(style);
                    // What was there before says nothing about the speed.
                    bar.set_position(done);
                    bar.reset_eta();
                    bar
                });
                if bar.length() != Some(total) {
                    bar.set_length(total);
                }
                if bar.message() != file {
                    bar.set_message(file.to_owned());
                }
                bar.set_position(done);
            }
            // The small files and the weights.
            Event::Progress { total, .. } if total != self.announced => {
                self.announced = total;
                eprintln!("fetching {} of {repo}", Bytes(total));
            }
            Event::Note(text) => match &self.bar {
                Some(bar) => bar.suspend(|| eprintln!("{text}")),
                None => eprintln!("{text}"),
            },
            _ => {}
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
