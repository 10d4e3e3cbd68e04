//! What a refusal of the hub means, and what to do about it.

use super::url::{origin, shown};
use super::{Again, Client, Failure, Subject, text};
use crate::error::Error;
use std::time::Duration;
use ureq::http::HeaderMap;

impl Client {
    /// The error for an answer that a hub should not give.
    pub(super) fn bad_answer(&self, subject: Subject<'_>, url: &str, found: String) -> Error {
        let advice = if self.endpoint == url.get(..self.endpoint.len()).unwrap_or_default() {
            "run the command again; if that does not help, check HF_ENDPOINT".to_owned()
        } else {
            "run the command again later".to_owned()
        };
        Error::BadHubAnswer { what: subject.name(), url: shown(url), found, advice }
    }

    /// A request without an answer.
    pub(super) fn unreachable(&self, error: ureq::Error, url: &str, subject: Subject<'_>) -> Failure {
        use std::io::ErrorKind;
        const NETWORK: &str = "check the network, HTTPS_PROXY and HF_ENDPOINT; --offline uses what the cache has";
        let server = origin(url).unwrap_or_default();
        let host = server.split("://").last().unwrap_or_default();
        let (problem, again, advice) = match &error {
            ureq::Error::HostNotFound => (format!("there is no address of {host}"), Again::IfConnected, NETWORK),
            ureq::Error::Timeout(_) => ("it does not answer in time".to_owned(), Again::Soon, NETWORK),
            ureq::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
                ("the connection was refused".to_owned(), Again::IfConnected, NETWORK)
            }
            ureq::Error::Io(e) if e.kind() == ErrorKind::UnexpectedEof => {
                ("the connection was cut".to_owned(), Again::Soon, NETWORK)
            }
            ureq::Error::Io(e) if e.kind() == ErrorKind::InvalidData => (format!("{e}"), Again::Never, CERTIFICATES),
            ureq::Error::Rustls(e) => (format!("{e}"), Again::Never, CERTIFICATES),
            ureq::Error::Io(e) => (e.to_string(), Again::IfConnected, NETWORK),
            other => (other.to_string(), Again::Soon, NETWORK),
        };
        const CERTIFICATES: &str =
            "behind a proxy that opens encrypted connections, set SSL_CERT_FILE to its certificates";
        let (what, advice) = (subject.name(), advice.to_owned());
        Failure { error: Box::new(Error::HubUnreachable { what, url: server, problem, advice }), again }
    }

    /// An answer that is no success.
    pub(super) fn refused(&self, status: u16, headers: &HeaderMap, at: (&str, bool), subject: Subject<'_>) -> Failure {
        let (url, at_hub) = at;
        let Subject { repo, revision, file } = subject;
        let endpoint = self.endpoint.clone();
        let page = format!("{endpoint}/{repo}");
        let code = text(headers, "x-error-code").unwrap_or_default();
        let access = |problem: String, advice: String| {
            Failure::from(Error::NoHubAccess { repo: repo.to_owned(), endpoint: endpoint.clone(), problem, advice })
        };
        let absent = |what: String, advice: &str| {
            Failure::from(Error::NotOnHub { what, endpoint: endpoint.clone(), advice: advice.to_owned() })
        };
        match (status, code, file) {
            // The other server's link has expired: the hub makes a new one.
            (401 | 403 | 404 | 410, ..) if !at_hub => {
                let error = self.bad_answer(subject, url, format!("status {status}"));
                Failure { error: Box::new(error), again: Again::Soon }
            }
            (_, "DisabledRepo", _) => access("the hub has disabled it".to_owned(), format!("see {page}")),
            (401 | 403, "GatedRepo", _) | (403, _, _) => match &self.token {
                None => access(
                    "it is gated".to_owned(),
                    format!(
                        "accept its terms on {page}, make a token on {endpoint}/settings/tokens and set HF_TOKEN to it"
                    ),
                ),
                Some(token) => access(
                    format!("it is gated, and the account of the token from {} has no access", token.source()),
                    format!("accept its terms on {page} with that account, and check that the token may read it"),
                ),
            },
            (401, ..) => match &self.token {
                None => access(
                    "there is no public repository of this name".to_owned(),
                    "check the name; for a private repository set HF_TOKEN to a token that may read it".to_owned(),
                ),
                Some(token) => access(
                    format!("the token from {} is not valid, or the repository does not exist", token.source()),
                    format!("check the name, and the token on {endpoint}/settings/tokens"),
                ),
            },
            (404, "RevisionNotFound", _) => {
                absent(format!("revision {revision} of {repo}"), "check the branch, tag or commit after the @")
            }
            (404, "EntryNotFound", Some(_)) | (404, "", Some(_)) => {
                absent(format!("{} at revision {revision}", subject.name()), "check the file's name and the revision")
            }
            (404, ..) => absent(
                format!("repository {repo}"),
                "check the name; a private repository needs HF_TOKEN, a token that may read it",
            ),
            (416, ..) => {
                Failure { error: Box::new(self.bad_answer(subject, url, "status 416".to_owned())), again: Again::Soon }
            }
            (429, ..) => {
                let error = Error::BadHubAnswer {
                    what: subject.name(),
                    url: shown(url),
                    found: "status 429: too many requests".to_owned(),
                    advice: "wait some minutes; with a token (HF_TOKEN) the hub allows more".to_owned(),
                };
                let seconds = text(headers, "retry-after").and_then(|seconds| seconds.trim().parse().ok());
                Failure {
                    error: Box::new(error),
                    again: seconds.map_or(Again::Soon, |seconds| Again::After(Duration::from_secs(seconds))),
                }
            }
            (408 | 500..=599, ..) => {
                let error = self.bad_answer(subject, url, format!("status {status}: the server has a problem"));
                Failure { error: Box::new(error), again: Again::Soon }
            }
            _ => self.bad_answer(subject, url, format!("status {status}")).into(),
        }
    }
}
