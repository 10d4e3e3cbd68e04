//! Kept states: bytes by id, within a budget.

use super::options::StatePlace;
use crate::error::{Error, Result};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use std::sync::Arc;

/// Keeps states by id. Several servers may share one place.
pub(super) struct Store {
    place: Arc<dyn ObjectStore>,
    label: String,
    most_bytes: u64,
}

/// A kept state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) bytes: u64,
    /// In seconds since 1970.
    pub(super) created: i64,
}

/// Ends the name of a state's file.
const SUFFIX: &str = ".state";

/// Maximum characters of an id.
const LONGEST_ID: usize = 64;

/// Whether an id is a plain name: it becomes a file's.
pub(super) fn is_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

impl Store {
    /// Opens a place; creates its folder.
    pub(super) fn open(place: &StatePlace, most_bytes: u64) -> Result<Self> {
        let (store, label): (Arc<dyn ObjectStore>, _) = match place {
            StatePlace::Memory => (Arc::new(InMemory::new()), "memory".to_owned()),
            StatePlace::Folder(dir) => {
                let fail = |problem| Error::Io { doing: "create", path: dir.clone(), problem };
                std::fs::create_dir_all(dir).map_err(fail)?;
                let fail = |problem: object_store::Error| fail(std::io::Error::other(problem));
                let files = LocalFileSystem::new_with_prefix(dir).map_err(fail)?.with_automatic_cleanup(false);
                (Arc::new(files), dir.display().to_string())
            }
            StatePlace::Bucket(url) => (bucket(url)?, url.clone()),
        };
        Ok(Store { place: store, label, most_bytes })
    }

    /// Where they are kept.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The budget in bytes.
    pub(super) fn most_bytes(&self) -> u64 {
        self.most_bytes
    }

    /// Keeps a state in place of one of the same id. Then deletes the oldest others until all fit the budget.
    pub(super) async fn put(&self, id: &str, bytes: Vec<u8>) -> Result<()> {
        let size = bytes.len() as u64;
        if size > self.most_bytes {
            let problem = "this state alone does not fit";
            return Err(Error::BadSetting {
                name: "state budget",
                value: format!("{} bytes", self.most_bytes),
                problem,
            });
        }
        self.place.put(&path(id), PutPayload::from(bytes)).await.map_err(|e| self.fail("write", id, e))?;
        self.evict(id).await
    }

    async fn evict(&self, newest: &str) -> Result<()> {
        let mut all = self.list().await?;
        let mut bytes: u64 = all.iter().map(|kept| kept.bytes).sum();
        all.sort_by_key(|kept| kept.created);
        for kept in all.iter().filter(|kept| kept.id != newest) {
            if bytes <= self.most_bytes {
                break;
            }
            self.delete(&kept.id).await?;
            bytes -= kept.bytes;
        }
        Ok(())
    }

    /// A state's bytes; `None` if there is none of this id.
    pub(super) async fn get(&self, id: &str) -> Result<Option<Vec<u8>>> {
        if !is_id(id) {
            return Ok(None);
        }
        let found = async { self.place.get(&path(id)).await?.bytes().await }.await;
        match found {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fail("read", id, error)),
        }
    }

    /// A state's size and age; `None` if there is none of this id.
    pub(super) async fn find(&self, id: &str) -> Result<Option<Kept>> {
        if !is_id(id) {
            return Ok(None);
        }
        match self.place.head(&path(id)).await {
            Ok(meta) => Ok(kept(&meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fail("read", id, error)),
        }
    }

    /// Keeps a copy under another id.
    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<()> {
        self.place.copy(&path(from), &path(to)).await.map_err(|e| self.fail("copy", from, e))?;
        self.evict(to).await
    }

    /// Deletes a state; false if there is none of this id.
    pub(super) async fn delete(&self, id: &str) -> Result<bool> {
        if self.find(id).await?.is_none() {
            return Ok(false);
        }
        match self.place.delete(&path(id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(self.fail("delete", id, error)),
        }
    }

    /// All states, newest last.
    pub(super) async fn list(&self) -> Result<Vec<Kept>> {
        let listed = self.place.list_with_delimiter(None).await.map_err(|e| self.fail("list", "", e))?;
        let mut all: Vec<Kept> = listed.objects.iter().filter_map(kept).collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(all)
    }

    fn fail(&self, doing: &'static str, id: &str, problem: object_store::Error) -> Error {
        let path = std::path::Path::new(&self.label).join(id);
        Error::Io { doing, path, problem: std::io::Error::other(problem) }
    }
}

/// A bucket, or a part of one. Nothing is sent yet.
#[cfg(feature = "s3")]
fn bucket(url: &str) -> Result<Arc<dyn ObjectStore>> {
    use object_store::aws::AmazonS3Builder;
    use object_store::prefix::PrefixStore;
    /// A service that does not answer fails a request, not the server.
    const RETRIES: object_store::RetryConfig = object_store::RetryConfig {
        max_retries: 3,
        retry_timeout: std::time::Duration::from_secs(20),
        backoff: object_store::BackoffConfig {
            init_backoff: std::time::Duration::from_millis(100),
            max_backoff: std::time::Duration::from_secs(5),
            base: 2.0,
        },
    };
    let fail = |problem| Error::Io { doing: "open", path: url.into(), problem: std::io::Error::other(problem) };
    let prefix = url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).map_or("", |(_, prefix)| prefix);
    let builder = AmazonS3Builder::from_env().with_url(url).with_retry(RETRIES);
    Ok(Arc::new(PrefixStore::new(builder.build().map_err(fail)?, prefix)))
}

#[cfg(not(feature = "s3"))]
fn bucket(url: &str) -> Result<Arc<dyn ObjectStore>> {
    let problem = "this program was built without the feature s3";
    Err(Error::BadSetting { name: "place of states", value: url.to_owned(), problem })
}

fn path(id: &str) -> Path {
    Path::from(format!("{id}{SUFFIX}"))
}

/// A state by its file; `None` for other files.
fn kept(meta: &ObjectMeta) -> Option<Kept> {
    let id = meta.location.filename()?.strip_suffix(SUFFIX).filter(|id| is_id(id))?;
    Some(Kept { id: id.to_owned(), bytes: meta.size, created: meta.last_modified.timestamp() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;

    #[test]
    fn states_are_kept_within_the_budget_and_the_oldest_go_first() {
        let store = Store::open(&StatePlace::Memory, 10).unwrap();
        block_on(async {
            store.put("a", vec![1; 4]).await.unwrap();
            store.put("b", vec![2; 4]).await.unwrap();
            store.put("c", vec![3; 4]).await.unwrap();
            let ids: Vec<String> = store.list().await.unwrap().into_iter().map(|kept| kept.id).collect();
            assert_eq!(ids.len(), 2);
            assert!(ids.contains(&"c".to_owned()));
            assert_eq!(store.get("c").await.unwrap(), Some(vec![3; 4]));
            assert!(store.put("d", vec![0; 11]).await.is_err());
            assert!(store.delete("c").await.unwrap() && !store.delete("c").await.unwrap());
            assert_eq!(store.get("c").await.unwrap(), None);
        });
    }

    #[test]
    #[cfg(not(feature = "s3"))]
    fn a_bucket_needs_its_feature() {
        let error = Store::open(&StatePlace::Bucket("s3://states".to_owned()), 10).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("feature s3"), "{error}");
    }

    #[test]
    fn an_id_cannot_leave_the_folder() {
        for id in ["", "..", "a/b", "a.b", "ü", "a b", &"a".repeat(65)] {
            assert!(!is_id(id), "{id}");
        }
        assert!(is_id("chatcmpl-0123_ABC"));
    }
}
