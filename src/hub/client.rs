//! Requests to the hub: its addresses, redirects and the token. What its refusals mean is in `refusal`.
//!
//! Source: <https://huggingface.co/docs/hub/api>; the headers are those that huggingface_hub reads.

mod refusal;
mod url;

use super::name::is_commit;
use super::settings::{HubSettings, Token};
use crate::error::{Error, Result};
use serde_json::Value;
use std::io::Read;
use std::time::Duration;
use ureq::http::HeaderMap;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use url::{encoded, origin, redirected};

const MOST_REDIRECTS: usize = 8;

/// Largest answer that is not a file.
const LARGEST_LISTING: u64 = 64 << 20;

/// Longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Sends requests.
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    token: Option<Token>,
    tries: u32,
    pause: Duration,
}

/// What a request asks for; it names the repository and the revision in messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
    /// The file; `None` for the list of files.
    pub(super) file: Option<&'a str>,
}

impl Subject<'_> {
    pub(super) fn name(&self) -> String {
        self.file.map_or_else(|| self.repo.to_owned(), |file| format!("{file} of {}", self.repo))
    }
}

/// The files of a revision.
pub(super) struct Listing {
    pub(super) commit: String,
    /// Names and, where the hub says so, sizes.
    pub(super) files: Vec<(String, Option<u64>)>,
}

/// What the hub says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    /// The name of its content: SHA-256 of a large file, Git's hash of a small one.
    pub(super) etag: String,
    pub(super) size: u64,
}

impl About {
    /// The SHA-256 of the content, if it is known.
    pub(super) fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit())).then_some(&self.etag)
    }
}

/// A file's bytes as they arrive.
pub(super) struct Incoming {
    /// Where they begin in the file.
    pub(super) from: u64,
    pub(super) body: Box<dyn Read>,
}

/// A request that failed, and whether to try again.
pub(super) struct Failure {
    pub(super) error: Box<Error>,
    pub(super) again: Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// Only where connections worked before: there may be no network at all.
    IfConnected,
    /// After the usual pause.
    Soon,
    /// After the time that the server asks for.
    After(Duration),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error: Box::new(error), again: Again::Never }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    /// The bytes from here on.
    Get(u64),
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: ureq::Body,
    /// Headers of the answers before the last one.
    before: Vec<HeaderMap>,
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Result<Self> {
        let roots = match &settings.certificates {
            None => RootCerts::WebPki,
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|e| Error::unreadable(path, e))?;
                let certificates: Vec<_> = parse_pem(&bytes)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(certificate)) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if certificates.is_empty() {
                    let problem = "it has no certificates in PEM".to_owned();
                    return Err(Error::BadSwitch {
                        switch: "SSL_CERT_FILE",
                        value: path.display().to_string(),
                        problem,
                    });
                }
                RootCerts::new_with_certs(&certificates)
            }
        };
        // A proxy does not reach a server of this machine.
        let is_here = ["http://127.0.0.1", "http://localhost"].iter().any(|here| settings.endpoint.starts_with(here));
        let proxy = if is_here { None } else { ureq::Proxy::try_from_env() };
        let agent = ureq::Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .timeout_per_write(Some(settings.timeout))
            .user_agent(concat!("peregrine/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build()
            .new_agent();
        let HubSettings { endpoint, token, tries, pause, .. } = settings.clone();
        Ok(Client { agent, endpoint, token, tries, pause })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The pause before a further try, or the error where it gives up. `failed` counts tries in a row without a byte.
    pub(super) fn pause(&self, failure: Failure, failed: u32, connected: bool) -> Result<Duration> {
        let usual = self.pause * 2u32.saturating_pow(failed.saturating_sub(1).min(6));
        match failure.again {
            _ if failed >= self.tries => Err(*failure.error),
            Again::Never => Err(*failure.error),
            Again::IfConnected if !connected => Err(*failure.error),
            Again::IfConnected | Again::Soon => Ok(usual),
            Again::After(pause) if pause <= LONGEST_PAUSE => Ok(pause.max(usual)),
            Again::After(_) => Err(*failure.error),
        }
    }

    /// Tries until an answer comes or it gives up.
    fn insist<T>(&self, mut request: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut failed = 0;
        loop {
            match request() {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    failed += 1;
                    std::thread::sleep(self.pause(failure, failed, false)?);
                }
            }
        }
    }

    /// The files of a repository at a revision.
    pub(super) fn list(&self, subject: Subject<'_>) -> Result<Listing> {
        let Subject { repo, revision, .. } = subject;
        let url = format!("{}/api/models/{repo}/revision/{}?blobs=true", self.endpoint, encoded(revision, false));
        self.insist(|| {
            let answer = self.send(Method::Get(0), &url, subject)?;
            let body = answer.body.into_with_config().limit(LARGEST_LISTING).read_to_vec();
            let body = body.map_err(|e| self.unreachable(e, &url, subject))?;
            let bad = |found: String| self.bad_answer(subject, &url, found);
            let json: Value =
                serde_json::from_slice(&body).map_err(|e| bad(format!("something that is no JSON ({e})")))?;
            let commit = json["sha"].as_str().filter(|commit| is_commit(commit));
            let commit = commit.ok_or_else(|| bad("a list without the commit".to_owned()))?.to_owned();
            let siblings = json["siblings"].as_array().ok_or_else(|| bad("no list of files".to_owned()))?;
            let mut files = Vec::with_capacity(siblings.len());
            for sibling in siblings {
                let name = sibling["rfilename"].as_str().ok_or_else(|| bad("a file without a name".to_owned()))?;
                if !is_inside(name) {
                    return Err(bad(format!("the file name {name:?}, which leads out of the cache")).into());
                }
                files.push((name.to_owned(), sibling["size"].as_u64()));
            }
            Ok(Listing { commit, files })
        })
    }

    fn file_url(&self, subject: Subject<'_>) -> String {
        let Subject { repo, revision, file } = subject;
        let file = encoded(file.unwrap_or_default(), true);
        format!("{}/{repo}/resolve/{}/{file}", self.endpoint, encoded(revision, false))
    }

    /// What the hub says about a file of a commit.
    pub(super) fn about(&self, subject: Subject<'_>) -> Result<About> {
        let url = self.file_url(subject);
        self.insist(|| {
            let answer = self.send(Method::Head, &url, subject)?;
            let bad = |found: &str| Failure::from(self.bad_answer(subject, &url, found.to_owned()));
            if let Some(commit) = answer.first("x-repo-commit")
                && is_commit(subject.revision)
                && commit != subject.revision
            {
                return Err(bad("another commit: the repository was changed meanwhile"));
            }
            let etag = answer.first("x-linked-etag").or_else(|| text(&answer.headers, "etag"));
            let etag = etag.map(plain_etag).filter(|etag| is_etag(etag)).ok_or_else(|| bad("no usable ETag"))?;
            let size = answer.first("x-linked-size").or_else(|| text(&answer.headers, "content-length"));
            let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| bad("no size"))?;
            Ok(About { etag: etag.to_owned(), size })
        })
    }

    /// A file's bytes from `from` on; from the beginning, where the server knows no ranges.
    pub(super) fn open(&self, subject: Subject<'_>, about: &About, from: u64) -> Result<Incoming, Failure> {
        let url = self.file_url(subject);
        let answer = self.send(Method::Get(from), &url, subject)?;
        let changed =
            |found: String| Failure { error: Box::new(self.bad_answer(subject, &url, found)), again: Again::Soon };
        let (begin, size) = match answer.status {
            206 => {
                let range = text(&answer.headers, "content-range").and_then(content_range);
                range.ok_or_else(|| changed("a part without its range".to_owned()))?
            }
            _ => (0, text(&answer.headers, "content-length").and_then(|length| length.parse().ok())),
        };
        if begin != from && begin != 0 {
            return Err(changed(format!("the bytes from {begin} on, asked for those from {from} on")));
        }
        if let Some(size) = size
            && size != about.size
        {
            return Err(changed(format!(
                "a file of {size} bytes, announced were {}: it was changed meanwhile",
                about.size
            )));
        }
        let body = answer.body.into_with_config().limit(u64::MAX).reader();
        Ok(Incoming { from: begin, body: Box::new(body) })
    }

    /// Sends a request and follows redirects. The token goes to the hub alone, not to the servers that it leads to.
    fn send(&self, method: Method, url: &str, subject: Subject<'_>) -> Result<Answer, Failure> {
        let hub = origin(&self.endpoint);
        let (mut url, mut before) = (url.to_owned(), vec![]);
        for _ in 0..MOST_REDIRECTS {
            let at_hub = origin(&url) == hub;
            let mut request = match method {
                Method::Head => self.agent.head(&url),
                Method::Get(_) => self.agent.get(&url),
            };
            // A range counts bytes of the file, not of its compressed form.
            request = request.header("accept-encoding", "identity");
            if let Method::Get(from @ 1..) = method {
                request = request.header("range", format!("bytes={from}-"));
            }
            if let (Some(token), true) = (&self.token, at_hub) {
                request = request.header("authorization", format!("Bearer {}", token.value()));
            }
            let answer = request.call().map_err(|e| self.unreachable(e, &url, subject))?;
            let (parts, body) = answer.into_parts();
            let (status, headers) = (parts.status.as_u16(), parts.headers);
            match status {
                200 | 206 => return Ok(Answer { status, headers, body, before }),
                301 | 302 | 303 | 307 | 308 => {
                    let bad = |found: String| Failure::from(self.bad_answer(subject, &url, found));
                    let next = text(&headers, "location").and_then(|to| redirected(&url, to));
                    let next = next.ok_or_else(|| bad("a redirect to nowhere".to_owned()))?;
                    if url.starts_with("https://") && !next.starts_with("https://") {
                        return Err(bad(format!("a redirect to {next}, which is not encrypted")));
                    }
                    // The hub has said all about a file before it leads to the server that has its bytes.
                    if method == Method::Head && headers.contains_key("x-linked-etag") && origin(&next) != hub {
                        return Ok(Answer { status, headers, body, before });
                    }
                    before.push(headers);
                    url = next;
                }
                _ => return Err(self.refused(status, &headers, (&url, at_hub), subject)),
            }
        }
        Err(self.bad_answer(subject, &url, format!("more than {MOST_REDIRECTS} redirects")).into())
    }
}

impl Answer {
    /// A header of the first answer that has it.
    fn first(&self, name: &str) -> Option<&str> {
        self.before.iter().chain([&self.headers]).find_map(|headers| text(headers, name))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An ETag without quotes and without the mark of weak ones.
fn plain_etag(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// Whether an ETag can be the name of a file.
fn is_etag(etag: &str) -> bool {
    (1..=128).contains(&etag.len()) && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Whether a name is one of a file inside of a folder.
pub(super) fn is_inside(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    name.split('/').all(part)
}

/// The first byte and the size of the file, of `bytes 5-9/10`.
fn content_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, size) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((span.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_answers_are_read_strictly() {
        assert_eq!(plain_etag("W/\"abc\""), "abc");
        assert!(is_etag("0a-b") && !is_etag("") && !is_etag("../x") && !is_etag("a b"));
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("5-9/10"), None);
        for name in ["../x", "/x", "a//b", "a/./b", "a\\b", "c:x", ""] {
            assert!(!is_inside(name), "{name}");
        }
        assert!(is_inside("a/b.gguf"));
    }
}
