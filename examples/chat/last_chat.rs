//! The last chat with each model: kept when somebody leaves, offered at the next start.

use peregrine::Error;
use peregrine::runtime::Snapshot;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the last chat with a model is kept.
pub struct LastChat(PathBuf);

impl LastChat {
    /// With the model of this label, which is its path where it has one. `None` where no folder is known to keep it in.
    pub fn of(label: &str) -> Option<Self> {
        let place = std::fs::canonicalize(label).map_or_else(|_| label.to_owned(), |path| path.display().to_string());
        Some(LastChat(state_folder()?.join("chats").join(format!("{}.safetensors", file_name(&place)))))
    }

    /// The chat, if there is one.
    pub fn open(&self) -> peregrine::Result<Option<Snapshot>> {
        if self.0.exists() { Snapshot::open(&self.0).map(Some) } else { Ok(None) }
    }

    /// Puts a chat in its place. The old one stays until the new one is whole.
    pub fn save(&self, snapshot: &Snapshot) -> peregrine::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        make_private(folder).map_err(|problem| Error::Io { doing: "make", path: folder.to_owned(), problem })?;
        snapshot.save(&self.0)
    }

    /// Whether somebody wants to go on with it.
    pub fn question(&self, snapshot: &Snapshot) -> String {
        let messages = snapshot.messages().iter().filter(|message| message.role != "system").count();
        let plural = if messages == 1 { "" } else { "s" };
        let age = std::fs::metadata(&self.0).and_then(|about| about.modified()).ok();
        let age = age.map(|modified| ago(modified.elapsed().unwrap_or_default()));
        let when = age.map_or_else(String::new, |age| format!(", {age}"));
        format!("continue the last chat ({messages} message{plural}{when})? y/N")
    }
}

/// The user's folder for what a program keeps between its runs; it is made.
pub fn state_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_STATE_HOME")
        .or_else(|| set("LOCALAPPDATA"))
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    let folder = folder.join("peregrine");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder)
}

/// Makes a folder that nobody else may look into.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// A path as the name of one file, which is not too long for any file system.
fn file_name(path: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '%' };
    let name: String = path.chars().map(plain).collect();
    // Its end tells more than its beginning.
    let from = (name.len().saturating_sub(200)..=name.len()).find(|at| name.is_char_boundary(*at));
    name[from.unwrap_or_default()..].to_owned()
}

/// How long ago something was, in words.
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
    fn a_time_is_said_in_words() {
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
    fn each_path_has_a_file_of_its_own() {
        assert_eq!(file_name("/models/falcon mamba"), "%models%falcon%mamba");
        let long = format!("{}/é", "x/".repeat(300));
        assert!(file_name(&long).len() <= 200 && file_name(&long).ends_with("%é"));
    }
}
