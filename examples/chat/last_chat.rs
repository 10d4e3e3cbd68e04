//! The last chat with each model: saved on exit, offered at the next start.

use peregrine::Error;
use peregrine::runtime::Snapshot;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file of the last chat with a model.
pub struct LastChat(PathBuf);

impl LastChat {
    /// The file for the model with this label, which is its path if it has one. `None` if there is no state folder.
    pub fn of(label: &str) -> Option<Self> {
        let model = std::fs::canonicalize(label).map_or_else(|_| label.to_owned(), |path| path.display().to_string());
        Some(LastChat(state_folder()?.join("chats").join(format!("{}.safetensors", file_name(&model)))))
    }

    /// The saved chat, if there is one.
    pub fn open(&self) -> peregrine::Result<Option<Snapshot>> {
        if self.0.exists() { Snapshot::open(&self.0).map(Some) } else { Ok(None) }
    }

    /// Saves a chat. Replaces the old one atomically.
    pub fn save(&self, snapshot: &Snapshot) -> peregrine::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        make_private(folder).map_err(|problem| Error::Io { doing: "make", path: folder.to_owned(), problem })?;
        snapshot.save(&self.0)
    }

    /// The question whether to continue it.
    pub fn question(&self, snapshot: &Snapshot) -> String {
        let messages = snapshot.messages().iter().filter(|message| message.role != "system").count();
        let plural = if messages == 1 { "" } else { "s" };
        let age = std::fs::metadata(&self.0).and_then(|about| about.modified()).ok();
        let age = age.map(|modified| ago(modified.elapsed().unwrap_or_default()));
        let when = age.map_or_else(String::new, |age| format!(", {age}"));
        format!("continue the last chat ({messages} message{plural}{when})? y/N")
    }
}

/// The user's state folder for peregrine; creates it.
pub fn state_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_STATE_HOME")
        .or_else(|| set("LOCALAPPDATA"))
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    let folder = folder.join("peregrine");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder)
}

/// Creates a folder that only the user can read.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// A file name derived from a path, short enough for any file system.
fn file_name(path: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '%' };
    let name: String = path.chars().map(plain).collect();
    // Keep the end of the path, which is more specific than its beginning.
    let from = (name.len().saturating_sub(200)..=name.len()).find(|at| name.is_char_boundary(*at));
    name[from.unwrap_or_default()..].to_owned()
}

/// A duration before now, in words.
fn ago(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    let some = |count: u64, what: &str| format!("{count} {what}{} ago", if count == 1 { "" } else { "s" });
    match minutes {
        0 => "just now".to_owned(),
        1..60 => some(minutes, "minute"),
        60..1440 => some(minutes / 60, "hour"),
        1440..2880 => "yesterday".to_owned(),
        _ => some(minutes / 1440, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ago, file_name};
    use std::time::Duration;

    #[test]
    fn ages_are_written_in_words() {
        for (seconds, words) in [
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (3599, "59 minutes ago"),
            (7300, "2 hours ago"),
            (90_000, "yesterday"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn each_path_has_its_own_file() {
        assert_eq!(file_name("/models/falcon mamba"), "%models%falcon%mamba");
        let long = format!("{}/é", "x/".repeat(300));
        assert!(file_name(&long).len() <= 200 && file_name(&long).ends_with("%é"));
    }
}
