//! Addresses of the hub and of where it redirects to.

use ureq::http::Uri;

/// Scheme, host and port.
pub(super) fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?.as_str();
    let host = authority.rsplit('@').next()?;
    Some(format!("{}://{}", uri.scheme_str()?, host.to_ascii_lowercase()))
}

/// The address that a redirect of `url` leads to.
pub(super) fn redirected(url: &str, to: &str) -> Option<String> {
    let next = match to {
        _ if to.starts_with("https://") || to.starts_with("http://") => to.to_owned(),
        _ if to.starts_with("//") => format!("{}:{to}", url.split(':').next()?),
        _ if to.starts_with('/') => format!("{}{to}", origin(url)?),
        _ => return None,
    };
    origin(&next).map(|_| next)
}

/// An address without its query, which may hold a signature.
pub(super) fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

/// A text as part of an address (RFC 3986), with or without its slashes.
pub(super) fn encoded(text: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' if keep_slashes => out.push('/'),
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_whole_addresses() {
        let url = "https://Hub.co:8443/a/b?c";
        assert_eq!(redirected(url, "/x?y").unwrap(), "https://hub.co:8443/x?y");
        assert_eq!(redirected(url, "//cdn.co/x").unwrap(), "https://cdn.co/x");
        assert_eq!(redirected(url, "http://cdn.co/x").unwrap(), "http://cdn.co/x");
        assert_eq!([redirected(url, "x"), redirected(url, "ftp://x/y"), redirected(url, "")], [None, None, None]);
        assert_ne!(origin("http://127.0.0.1:1/a"), origin("http://127.0.0.1:2/a"));
    }

    #[test]
    fn a_name_in_an_address_is_encoded() {
        assert_eq!(encoded("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(encoded("a b/ü.gguf", true), "a%20b/%C3%BC.gguf");
    }
}
