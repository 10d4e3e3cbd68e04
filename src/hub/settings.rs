//! Settings of the hub, from the environment variables that huggingface_hub reads.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";

/// Where models come from and are kept.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The cache folder.
    pub cache: PathBuf,
    /// The token of an account, for private and gated repositories.
    pub token: Option<Token>,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// Longest wait for a connection and for the next byte.
    pub timeout: Duration,
    /// Tries in a row that bring no byte before it gives up.
    pub tries: u32,
    /// Pause before the second try; each further one is twice as long.
    pub pause: Duration,
    /// A file with the certificates to trust, in PEM, instead of Mozilla's.
    pub certificates: Option<PathBuf>,
}

/// A token, and where it is from. Its value is not shown.
#[derive(Clone)]
pub struct Token {
    value: String,
    source: String,
}

impl Token {
    /// A token; `source` names its origin in messages.
    pub fn new(value: &str, source: &str) -> Result<Self> {
        let value = value.trim();
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
            let problem = format!("the token from {source} must be one word of ASCII letters, such as hf_...");
            return Err(Error::BadSwitch { switch: "HF_TOKEN", value: "(not shown)".to_owned(), problem });
        }
        Ok(Token { value: value.to_owned(), source: source.to_owned() })
    }

    pub(super) fn value(&self) -> &str {
        &self.value
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.source)
    }
}

impl HubSettings {
    /// The settings of `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`,
    /// `HF_HUB_DOWNLOAD_TIMEOUT` and `SSL_CERT_FILE`.
    pub fn from_env() -> Result<Self> {
        Self::of(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// The settings of variables that `get` returns where they are set and not empty.
    fn of(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let is_on = |name: &str| {
            text(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| PUBLIC.to_owned());
        let address = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if address.is_none_or(|address| address.trim_matches('/').is_empty()) {
            let problem = "it must be an address such as https://huggingface.co".to_owned();
            return Err(Error::BadSwitch { switch: "HF_ENDPOINT", value: endpoint, problem });
        }
        let timeout = match text("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => 10,
            Some(value) => value.parse().ok().filter(|seconds| (1..=86400).contains(seconds)).ok_or_else(|| {
                let problem = "it must be whole seconds from 1 to 86400".to_owned();
                Error::BadSwitch { switch: "HF_HUB_DOWNLOAD_TIMEOUT", value, problem }
            })?,
        };
        let user_home = std::env::home_dir();
        let under_home = |path: PathBuf| match (path.strip_prefix("~"), &user_home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path,
        };
        let folder = |name: &str| get(name).map(|value| under_home(value.into()));
        let home = match (folder("HF_HOME"), folder("XDG_CACHE_HOME"), &user_home) {
            (Some(home), ..) => home,
            (None, Some(cache), _) => cache.join("huggingface"),
            (None, None, Some(home)) => home.join(".cache").join("huggingface"),
            (None, None, None) => std::env::temp_dir().join("huggingface"),
        };
        let cache =
            folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub"));
        let named =
            ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| Some((text(name)?, name.to_owned())));
        let stored = || {
            let path = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            let value = std::fs::read_to_string(&path).ok().filter(|value| !value.trim().is_empty())?;
            (!is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")).then(|| (value, path.display().to_string()))
        };
        let token = named.or_else(stored).map(|(value, source)| Token::new(&value, &source)).transpose()?;
        Ok(HubSettings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            timeout: Duration::from_secs(timeout),
            tries: 5,
            pause: Duration::from_millis(500),
            certificates: folder("SSL_CERT_FILE"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn with(variables: &[(&str, &str)]) -> Result<HubSettings> {
        HubSettings::of(&|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_cache_is_the_one_that_huggingface_hub_uses() {
        let cache = |variables: &[(&str, &str)]| with(variables).unwrap().cache;
        let all = [("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")];
        assert_eq!(cache(&all[..1]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&all[..2]), Path::new("/h/hub"));
        assert_eq!(cache(&all), Path::new("/c"));
        if let Some(home) = std::env::home_dir() {
            assert_eq!(cache(&[]), home.join(".cache/huggingface/hub"));
            assert_eq!(cache(&[("HF_HOME", "~/models")]), home.join("models/hub"));
        }
    }

    #[test]
    fn a_token_is_taken_from_the_variable_and_else_from_the_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert!(with(&[("HF_HOME", home)]).unwrap().token.is_none());
        std::fs::write(dir.path().join("token"), "hf_stored\n").unwrap();
        let stored = with(&[("HF_HOME", home)]).unwrap().token.unwrap();
        assert_eq!(stored.value(), "hf_stored");
        assert!(!format!("{stored:?}").contains("hf_stored"));
        assert_eq!(with(&[("HF_HOME", home), ("HF_TOKEN", "hf_named")]).unwrap().token.unwrap().value(), "hf_named");
        let off = with(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap();
        assert!(off.token.is_none());
        assert!(with(&[("HF_TOKEN", "two words")]).unwrap_err().to_string().contains("HF_TOKEN"));
    }

    #[test]
    fn switches_are_read_and_bad_values_refused() {
        let settings = with(&[("HF_HUB_OFFLINE", "Yes"), ("HF_ENDPOINT", "http://127.0.0.1:1/x/")]).unwrap();
        assert_eq!((settings.offline, settings.endpoint.as_str()), (true, "http://127.0.0.1:1/x"));
        assert!(!with(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        for (name, value) in
            [("HF_ENDPOINT", "huggingface.co"), ("HF_ENDPOINT", "https://"), ("HF_HUB_DOWNLOAD_TIMEOUT", "0")]
        {
            assert!(with(&[(name, value)]).unwrap_err().to_string().starts_with(name), "{name}={value}");
        }
    }
}
