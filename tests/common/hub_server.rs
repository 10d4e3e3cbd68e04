//! A hub on loopback for tests: it speaks the hub's protocol, and fails as told.

use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one answer.
#[derive(Clone)]
pub enum Fault {
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// Nothing more comes for a while after so many bytes of the body.
    Stall(usize, Duration),
    /// Each KiB takes this long.
    Slow(Duration),
    /// This status and these headers.
    Status(u16, &'static str),
    /// Other bytes of the same number.
    Damaged,
    /// Ranges are ignored.
    NoRanges,
    /// A header has another value.
    Header(&'static str, String),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whether it went to the server of large files.
    pub at_store: bool,
    pub method: String,
    pub path: String,
    /// The first byte asked for.
    pub from: Option<u64>,
    pub token: Option<String>,
}

struct File {
    name: String,
    bytes: Vec<u8>,
    /// Large files are on another server.
    large: bool,
}

struct Repo {
    name: String,
    files: Vec<File>,
    /// The token that it needs.
    token: Option<&'static str>,
    gated: bool,
}

struct Planned {
    /// Part of the path of requests that it is for.
    path: String,
    /// Answers that it still spoils.
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    repos: Mutex<Vec<Repo>>,
    faults: Mutex<Vec<Planned>>,
    log: Mutex<Vec<Request>>,
    store: Mutex<String>,
}

/// The hub, and the server of its large files on another port.
pub struct HubServer {
    pub endpoint: String,
    state: Arc<State>,
}

impl HubServer {
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        let serve = |at_store: bool| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let state = state.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    // A client that goes away is no failure of the server.
                    std::thread::spawn(move || state.answer(stream, at_store).ok());
                }
            });
            address
        };
        let endpoint = serve(false);
        *state.store.lock().unwrap() = serve(true);
        HubServer { endpoint, state }
    }

    /// Adds a repository with these files; those that end in .safetensors or .gguf are large.
    pub fn repo(&self, name: &str, files: &[(&str, &[u8])]) {
        self.add(name, files, None, false);
    }

    /// Adds a repository that needs a token.
    pub fn private_repo(&self, name: &str, files: &[(&str, &[u8])], token: &'static str, gated: bool) {
        self.add(name, files, Some(token), gated);
    }

    fn add(&self, name: &str, files: &[(&str, &[u8])], token: Option<&'static str>, gated: bool) {
        let file = |(name, bytes): &(&str, &[u8])| File {
            name: (*name).to_owned(),
            bytes: bytes.to_vec(),
            large: name.ends_with(".safetensors") || name.ends_with(".gguf"),
        };
        let files = files.iter().map(file).collect();
        self.state.repos.lock().unwrap().push(Repo { name: name.to_owned(), files, token, gated });
    }

    /// Spoils the next `times` answers to requests whose path has `path`: of a large file's bytes with `/store/`.
    pub fn fail(&self, path: &str, times: usize, fault: Fault) {
        self.state.faults.lock().unwrap().push(Planned { path: path.to_owned(), times, fault });
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.log.lock().unwrap())
    }
}

impl State {
    fn answer(&self, stream: TcpStream, at_store: bool) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut words = first.split_whitespace();
        let (method, path) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
        let mut request = Request { at_store, method, path, from: None, token: None };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "range" => {
                    request.from = value.strip_prefix("bytes=").and_then(|v| v.trim_end_matches('-').parse().ok())
                }
                "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
        self.log.lock().unwrap().push(request.clone());
        let fault = self.fault(&request);
        let mut reply = match &fault {
            Some(Fault::Status(status, headers)) => {
                Reply { status: *status, headers: (*headers).to_owned(), body: vec![] }
            }
            _ => self.reply(&request, matches!(fault, Some(Fault::NoRanges))),
        };
        if let Some(Fault::Damaged) = fault {
            reply.body.iter_mut().for_each(|byte| *byte ^= 1);
        }
        if let Some(Fault::Header(name, value)) = &fault {
            let kept = reply.headers.lines().filter(|line| !line.to_ascii_lowercase().starts_with(name));
            reply.headers =
                kept.map(|line| format!("{line}\r\n")).collect::<String>() + &format!("{name}: {value}\r\n");
        }
        let length = match reply.headers.to_ascii_lowercase().contains("content-length:") {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", reply.body.len()),
        };
        let head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n{length}{}\r\n", reply.status, reply.headers);
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        match fault {
            Some(Fault::Cut(after)) => stream.write_all(&reply.body[..after.min(reply.body.len())])?,
            Some(Fault::Stall(after, pause)) => {
                stream.write_all(&reply.body[..after.min(reply.body.len())])?;
                std::thread::sleep(pause);
            }
            Some(Fault::Slow(pause)) => {
                for piece in reply.body.chunks(1024) {
                    stream.write_all(piece)?;
                    std::thread::sleep(pause);
                }
            }
            _ => stream.write_all(&reply.body)?,
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        // Waits for the client: closing with unread bytes would reset the connection.
        std::io::copy(&mut reader, &mut std::io::sink())?;
        Ok(())
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let planned = faults.iter_mut().find(|planned| planned.times > 0 && request.path.contains(&planned.path))?;
        planned.times -= 1;
        Some(planned.fault.clone())
    }

    fn reply(&self, request: &Request, whole: bool) -> Reply {
        let repos = self.repos.lock().unwrap();
        let path = request.path.split('?').next().unwrap();
        let find = |name: &str| repos.iter().find(|repo| repo.name == name);
        let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match words[..] {
            ["api", "models", user, repo, "revision", revision] if !request.at_store => {
                match find(&format!("{user}/{repo}")) {
                    // The list of a gated repository is public.
                    Some(repo) if repo.allows(request) || repo.gated => {
                        match revision == "main" || revision == COMMIT {
                            true => Reply { status: 200, headers: String::new(), body: repo.listing().into_bytes() },
                            false => Reply::error(404, "RevisionNotFound"),
                        }
                    }
                    _ if request.token.is_none() => Reply::error(401, "RepoNotFound"),
                    _ => Reply::error(404, "RepoNotFound"),
                }
            }
            [user, repo, "resolve", revision, ..] if !request.at_store => {
                let Some(repo) = find(&format!("{user}/{repo}")) else { return Reply::error(404, "RepoNotFound") };
                if !repo.allows(request) {
                    return Reply::error(if request.token.is_none() { 401 } else { 403 }, "GatedRepo");
                }
                let name = words[4..].join("/");
                let Some(file) = repo.files.iter().find(|file| file.name == name) else {
                    return Reply::error(404, "EntryNotFound");
                };
                let commit = format!("X-Repo-Commit: {revision}\r\n");
                if file.large {
                    let (store, etag, size) = (self.store.lock().unwrap(), file.etag(), file.bytes.len());
                    let to = format!("{store}/store/{}/{name}?signature=secret", repo.name);
                    let linked = format!("X-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {size}\r\n");
                    return Reply { status: 302, headers: format!("{commit}{linked}Location: {to}\r\n"), body: vec![] };
                }
                let to = format!("/api/resolve-cache/models/{}/{name}", repo.name);
                Reply { status: 307, headers: format!("{commit}Location: {to}\r\n"), body: vec![] }
            }
            ["api", "resolve-cache", "models", user, repo, ..] | ["store", user, repo, ..] => {
                let from = if path.starts_with("/store/") { 3 } else { 5 };
                let (repo, name) = (find(&format!("{user}/{repo}")), words[from..].join("/"));
                let file = repo.and_then(|repo| repo.files.iter().find(|file| file.name == name));
                file.map_or_else(|| Reply::error(404, ""), |file| file.reply(request, whole))
            }
            _ => Reply::error(404, ""),
        }
    }
}

impl Repo {
    fn allows(&self, request: &Request) -> bool {
        self.token.is_none() || request.token.as_deref() == self.token
    }

    fn listing(&self) -> String {
        let files =
            self.files.iter().map(|file| format!(r#"{{"rfilename": {:?}, "size": {}}}"#, file.name, file.bytes.len()));
        format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, files.collect::<Vec<_>>().join(", "))
    }
}

impl File {
    /// SHA-256 of a large file; of a small one as many digits as Git's hash has.
    fn etag(&self) -> String {
        let hash: String = Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if self.large { hash } else { hash[..40].to_owned() }
    }

    fn reply(&self, request: &Request, whole: bool) -> Reply {
        let size = self.bytes.len();
        // The server of large files has ETags of its own.
        let etag = if self.large { "of-the-store".to_owned() } else { self.etag() };
        match request.from.map(|from| from as usize) {
            Some(from) if !whole && from < size => Reply {
                status: 206,
                headers: format!("ETag: \"{etag}\"\r\nContent-Range: bytes {from}-{}/{size}\r\n", size - 1),
                body: self.bytes[from..].to_vec(),
            },
            Some(_) if !whole => Reply::error(416, ""),
            _ => {
                // The answer to HEAD has the length of the file.
                let headers = format!("ETag: \"{etag}\"\r\nContent-Length: {size}\r\n");
                Reply { status: 200, headers, body: self.bytes.clone() }
            }
        }
    }
}

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Reply {
    fn error(status: u16, code: &str) -> Self {
        let headers = if code.is_empty() { String::new() } else { format!("X-Error-Code: {code}\r\n") };
        Reply { status, headers, body: b"an error".to_vec() }
    }
}
