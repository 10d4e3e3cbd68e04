//! Models by name from the Hugging Face hub, in the cache that all programs of its ecosystem share.
//!
//! ```no_run
//! # fn main() -> peregrine::Result<()> {
//! use peregrine::hub::{Event, Hub, HubSettings, ModelName};
//! let hub = Hub::new(HubSettings::from_env()?)?;
//! let model = hub.fetch(&ModelName::parse("mamba-130m")?, &|_| Ok(()), &mut |event| {
//!     if let Event::Note(text) = event {
//!         eprintln!("{text}");
//!     }
//! })?;
//! let checkpoint = peregrine::Checkpoint::open(&model.path)?;
//! # Ok(())
//! # }
//! ```
//!
//! A download goes on where it ended, whatever ended it: files get their names when they are complete and verified, the revision is
//! noted when all files are there. [`HubSettings::from_env`] lists the environment variables.

mod cache;
mod choose;
mod client;
mod download;
mod list;
mod location;
mod name;
mod names;
mod settings;

pub use list::{CachedModel, Format};
pub use location::Location;
pub use name::{Choice, ModelName};
pub use names::{SHORT_NAMES, ShortName};
pub use settings::{HubSettings, Token};

use crate::error::{Error, Result};
use crate::input;
use cache::RepoCache;
use choose::{Chosen, Weights, choose};
use client::{Client, Listing, Subject};
use download::{Download, Told, check_space};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The hub and the cache.
pub struct Hub {
    settings: HubSettings,
    client: Client,
}

/// What happens during a download.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Bytes arrived.
    Progress {
        /// The file that they are of.
        file: &'a str,
        /// Bytes of the model that are here.
        done: u64,
        /// Bytes of the model.
        total: u64,
    },
    /// Something that the user should know: what it waits for, or uses instead.
    Note(String),
}

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What `Checkpoint::open` takes: a folder or a file.
    pub path: PathBuf,
    /// The repository.
    pub repo: String,
    /// The commit.
    pub commit: String,
    /// Whether bytes were fetched.
    pub downloaded: bool,
}

/// Refuses a model by its small files, before its weights are fetched. Gets the folder with config.json.
pub type Check<'a> = &'a dyn Fn(&Path) -> Result<()>;

impl Hub {
    /// Opens nothing yet.
    pub fn new(settings: HubSettings) -> Result<Self> {
        Ok(Hub { client: Client::new(&settings)?, settings })
    }

    /// The settings.
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// Makes a model available in the cache. A commit that is complete there takes no request; any other revision takes one, to
    /// learn its commit. Without the network, what the cache has of the revision is used, with a note.
    pub fn fetch(&self, model: &ModelName, check: Check<'_>, tell: &mut dyn FnMut(Event<'_>)) -> Result<Fetched> {
        let revision = model.revision();
        if self.settings.offline {
            return self.cached(model);
        }
        if name::is_commit(revision)
            && let Ok(found) = self.cached(model)
            && (found.path.is_file() || found.path.join("tokenizer.json").exists())
        {
            return Ok(found);
        }
        let listing = match self.client.list(Subject { repo: &model.repo, revision, file: None }) {
            Ok(listing) => listing,
            Err(error @ Error::HubUnreachable { .. }) => {
                let Ok(found) = self.cached(model) else { return Err(error) };
                tell(Event::Note(format!("{error}. Using the copy in the cache")));
                return Ok(found);
            }
            Err(error) => return Err(error),
        };
        let names: Vec<String> = listing.files.iter().map(|(name, _)| name.clone()).collect();
        let chosen = choose(&names, &model.choice)
            .map_err(|problem| Error::NoSuchModel { repo: format!("{}@{revision}", model.repo), problem })?;
        let mut fetch = Fetch {
            hub: self,
            repo: &model.repo,
            commit: &listing.commit,
            cache: self.repo_cache(&model.repo),
            sizes: sizes(&listing),
            missing: BTreeSet::new(),
            done: 0,
            downloaded: false,
            tell,
        };
        let path = fetch.all(&chosen, check)?;
        fetch.cache.set_commit(revision, &listing.commit)?;
        let downloaded = fetch.downloaded;
        Ok(Fetched { path, repo: model.repo.clone(), commit: listing.commit, downloaded })
    }

    /// A model that is complete in the cache. Makes no request.
    pub fn cached(&self, model: &ModelName) -> Result<Fetched> {
        let (cache, revision) = (self.repo_cache(&model.repo), model.revision());
        let absent = |what: String| {
            Error::NotInCache {
            what,
            cache: self.settings.cache.clone(),
            advice: "run it once with the network, without --offline and HF_HUB_OFFLINE; `peregrine models` lists what the cache has"
                .to_owned(),
        }
        };
        let commit =
            cache.commit_of(revision).ok_or_else(|| absent(format!("revision {revision} of {}", model.repo)))?;
        let names = cache.files(&commit);
        let chosen = choose(&names, &model.choice).map_err(|problem| absent(format!("{model} ({problem})")))?;
        let dir = cache.snapshot(&commit);
        for file in weights(&dir, &chosen.weights)? {
            if !names.contains(&file) {
                return Err(absent(format!("{file} of {}", model.repo)));
            }
        }
        Ok(Fetched { path: opened(&dir, &chosen), repo: model.repo.clone(), commit, downloaded: false })
    }

    /// The models of the cache, complete or not. Makes no request.
    pub fn cached_models(&self) -> Result<Vec<CachedModel>> {
        list::all(&self.settings.cache)
    }

    fn repo_cache(&self, repo: &str) -> RepoCache {
        RepoCache::new(&self.settings.cache, repo)
    }
}

/// The path to open.
fn opened(dir: &Path, chosen: &Chosen) -> PathBuf {
    chosen.open.as_ref().map_or_else(|| dir.to_owned(), |file| dir.join(file))
}

/// The files with the weights. An index is read from `dir`.
fn weights(dir: &Path, weights: &Weights) -> Result<Vec<String>> {
    let index = match weights {
        Weights::Files(files) => return Ok(files.clone()),
        Weights::Index(name) => dir.join(name),
    };
    let label = index.display().to_string();
    let bytes = std::fs::read(&index).map_err(|e| Error::unreadable(&index, e))?;
    let json = input::json(&label, &bytes)?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let values = map.into_iter().flat_map(|map| map.values()).filter_map(|value| value.as_str());
    let files: BTreeSet<String> = values.map(str::to_owned).collect();
    if files.is_empty() {
        return Err(Error::BadJson {
            file: label,
            problem: "it has no weight_map of tensor names to files".to_owned(),
        });
    }
    match files.iter().find(|file| !client::is_inside(file)) {
        Some(outside) => Err(Error::UnsafeShard { index: label, shard: outside.clone() }),
        None => Ok(files.into_iter().collect()),
    }
}

fn sizes(listing: &Listing) -> BTreeMap<String, u64> {
    listing.files.iter().filter_map(|(name, size)| Some((name.clone(), (*size)?))).collect()
}

/// A running download of a model.
struct Fetch<'a> {
    hub: &'a Hub,
    repo: &'a str,
    commit: &'a str,
    cache: RepoCache,
    /// Bytes of the files, as far as they are known.
    sizes: BTreeMap<String, u64>,
    /// The files that were missing, as far as they are known.
    missing: BTreeSet<String>,
    /// Bytes of those that are complete.
    done: u64,
    downloaded: bool,
    tell: &'a mut dyn FnMut(Event<'_>),
}

impl Fetch<'_> {
    /// Fetches small files, then the weights, so that weights that are there say that all is there.
    fn all(&mut self, chosen: &Chosen, check: Check<'_>) -> Result<PathBuf> {
        let dir = self.cache.snapshot(self.commit);
        self.want(&chosen.small);
        if let Weights::Files(files) = &chosen.weights {
            self.want(files);
        }
        self.check_space()?;
        self.files(&chosen.small)?;
        if chosen.small.iter().any(|file| file == "config.json") {
            check(&dir)?;
        }
        let files = weights(&dir, &chosen.weights)?;
        self.want(&files);
        self.check_space()?;
        self.files(&files)?;
        Ok(opened(&dir, chosen))
    }

    /// Adds those of the files that are missing to what is fetched.
    fn want(&mut self, files: &[String]) {
        let dir = self.cache.snapshot(self.commit);
        self.missing.extend(files.iter().filter(|file| !dir.join(file).exists()).cloned());
    }

    /// Bytes of what is fetched.
    fn total(&self) -> u64 {
        self.missing.iter().filter_map(|file| self.sizes.get(file)).sum()
    }

    /// Refuses a model that the disk has no space for, before anything is fetched.
    fn check_space(&self) -> Result<()> {
        let needed = self.total().saturating_sub(self.done + self.cache.unfinished_bytes());
        check_space(&self.cache.blobs(), self.repo, needed)
    }

    fn files(&mut self, files: &[String]) -> Result<()> {
        let missing = files.iter().filter(|file| self.missing.contains(*file)).collect::<Vec<_>>();
        for file in missing {
            let subject = Subject { repo: self.repo, revision: self.commit, file: Some(file) };
            let about = self.hub.client.about(subject)?;
            let (etag, size) = (about.etag.clone(), about.size);
            self.sizes.insert(file.clone(), size);
            let (done, total, tell) = (self.done, self.total(), &mut *self.tell);
            let download = Download { client: &self.hub.client, cache: &self.cache, subject, about };
            download.run(&mut |told| match told {
                Told::Bytes(bytes) => tell(Event::Progress { file, done: done + bytes, total }),
                Told::Note(text) => tell(Event::Note(text)),
            })?;
            self.cache.link(self.commit, file, &etag)?;
            self.done += size;
            self.downloaded = true;
        }
        Ok(())
    }
}
