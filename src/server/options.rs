//! Options of a server.

use super::metrics::MetricNames;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Options of a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The address to listen on; port 0 for a free one.
    pub address: SocketAddr,
    /// The model's name in responses and in `/v1/models`.
    pub model: String,
    /// The API keys; without any, everyone who reaches the address is served.
    pub keys: Keys,
    /// Whether an address other than loopback may be used without a key.
    pub open_to_all: bool,
    /// Origins of web pages that may call the server; `*` for all.
    pub origins: Vec<String>,
    /// Requests that may wait for a slot; more get status 429.
    pub queue: usize,
    /// Connections at a time; more clients wait to be accepted.
    pub connections: usize,
    /// How long a client may send nothing of a request that it began, and take nothing of its response.
    pub patience: Duration,
    /// Maximum bytes of a request body.
    pub max_body: usize,
    /// Maximum tokens of the prompts of a request.
    pub max_prompt: Option<usize>,
    /// Maximum tokens of an answer whose request sets no limit.
    pub max_tokens: Option<usize>,
    /// Where states are kept.
    pub states: StatePlace,
    /// Maximum bytes of kept states; the oldest are deleted.
    pub state_bytes: u64,
    /// How long requests in progress may take after the server was asked to end.
    pub drain: Duration,
    /// Names of the metrics.
    pub metric_names: MetricNames,
}

/// Where states are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePlace {
    /// In the memory of the process.
    Memory,
    /// In a folder, which several servers may share.
    Folder(PathBuf),
    /// In a bucket of S3 or of a service with its API, by a URL such as `s3://bucket/prefix`. Needs the feature `s3`; keys, region
    /// and endpoint are in AWS's environment variables.
    Bucket(String),
}

/// API keys, as hashes.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Keys by their text.
    pub fn new<S: AsRef<str>>(keys: impl IntoIterator<Item = S>) -> Self {
        Keys(keys.into_iter().map(|key| hash(key.as_ref())).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key is one of them. The time it takes does not depend on where keys differ.
    pub(super) fn admit(&self, key: &str) -> bool {
        let given = hash(key);
        let differ = |known: &[u8; 32]| known.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
        self.0.iter().fold(false, |found, known| found | (differ(known) == 0))
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

impl ServerOptions {
    /// Options with llama.cpp's defaults, on loopback.
    pub fn new(model: impl Into<String>) -> Self {
        ServerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            model: model.into(),
            keys: Keys::default(),
            open_to_all: false,
            origins: vec![],
            queue: 256,
            connections: 1024,
            patience: Duration::from_secs(60),
            max_body: 16 << 20,
            max_prompt: None,
            max_tokens: Some(4096),
            states: StatePlace::Memory,
            state_bytes: 4 << 30,
            drain: Duration::from_secs(30),
            metric_names: MetricNames::Own,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if !self.address.ip().is_loopback() && self.keys.is_empty() && !self.open_to_all {
            let problem = "other machines could use the server: give an API key, or say that this is intended";
            return Err(Error::BadSetting { name: "address", value: self.address.to_string(), problem });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_given_keys_are_admitted() {
        let keys = Keys::new(["sk-one", "sk-two"]);
        assert!(keys.admit("sk-one") && keys.admit("sk-two"));
        assert!(!keys.admit("sk-on") && !keys.admit("") && !keys.admit("sk-one "));
        assert!(!Keys::default().admit(""));
    }

    #[test]
    fn an_address_for_others_needs_a_key() {
        let open = ServerOptions { address: ([0, 0, 0, 0], 80).into(), ..ServerOptions::new("m") };
        assert!(open.check().unwrap_err().to_string().contains("API key"));
        assert!(ServerOptions { open_to_all: true, ..open.clone() }.check().is_ok());
        assert!(ServerOptions { keys: Keys::new(["k"]), ..open }.check().is_ok());
    }
}
