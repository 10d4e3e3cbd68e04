//! Names of models on the hub, as users type them.

use super::names;
use crate::error::{Error, Result};

/// A model on the hub: a repository, a revision of it, and which of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    /// The repository, `user/repo`.
    pub repo: String,
    /// A branch, tag or commit; `None` for `main`.
    pub revision: Option<String>,
    /// The files wanted.
    pub choice: Choice,
}

/// Which files of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Those of the layout of transformers, else the GGUF file that comes first in an order of preference, else a pickle.
    Default,
    /// The one GGUF file whose name has this quantization, such as `Q4_K_M`.
    Quant(String),
    /// The file of this name.
    File(String),
}

/// How names look.
const FORM: &str = "names are user/repo, user/repo:Q4_K_M, user/repo:file.gguf or user/repo@revision:file.gguf, or a short name that \
                    `peregrine models` lists";

/// Endings of files that hold weights.
pub(super) const WEIGHTS: [&str; 5] = [".gguf", ".safetensors", ".pth", ".pt", ".bin"];

/// Longest part of a repository's name on the hub.
const LONGEST: usize = 96;

impl ModelName {
    /// Reads `user/repo[@revision][:quant or file]`. A short name stands for its repository, and the address of a repository's
    /// page is accepted.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |problem: &str| Error::BadModelName { name: text.to_owned(), problem: format!("{problem}; {FORM}") };
        let page = ["https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"];
        let name = page.iter().find_map(|page| text.strip_prefix(page)).unwrap_or(text).trim_end_matches('/');
        let (name, choice) = match name.split_once(':') {
            Some((_, "")) => return Err(bad("nothing follows the colon")),
            Some((name, choice)) => (name, Choice::of(choice)),
            None => (name, Choice::Default),
        };
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.to_owned())),
            None => (name, None),
        };
        if let Some(problem) = revision.as_deref().and_then(bad_revision) {
            return Err(bad(problem));
        }
        if let Choice::Quant(asked) | Choice::File(asked) = &choice
            && asked.contains('@')
        {
            return Err(bad("the revision comes before the colon"));
        }
        let repo = match names::repo(name) {
            Some(repo) => repo,
            None if !name.contains('/') => return Err(bad("it has no slash, and is no short name")),
            None => name,
        };
        let mut parts = repo.split('/');
        let valid = parts.clone().count() == 2 && parts.all(is_part) && !repo.contains("--");
        if !valid {
            return Err(bad("a repository is two words of letters, digits, '-', '_' and '.'"));
        }
        Ok(ModelName { repo: repo.to_owned(), revision, choice })
    }

    /// Whether a text is a short name, with or without a revision and a choice.
    pub fn is_short(text: &str) -> bool {
        names::repo(text.split(['@', ':']).next().unwrap_or_default()).is_some()
    }

    /// The same model at another revision. A name that says another one already is an error.
    pub fn at(self, revision: &str) -> Result<Self> {
        let problem = match &self.revision {
            Some(said) if said != revision => Some("the model's name has another revision"),
            _ => bad_revision(revision),
        };
        match problem {
            Some(problem) => Err(Error::BadModelName { name: revision.to_owned(), problem: problem.to_owned() }),
            None => Ok(ModelName { revision: Some(revision.to_owned()), ..self }),
        }
    }

    /// The revision asked for.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        match &self.choice {
            Choice::Default => Ok(()),
            Choice::Quant(asked) | Choice::File(asked) => write!(f, ":{asked}"),
        }
    }
}

impl Choice {
    /// A file if the text ends as files with weights do, else a quantization.
    pub fn of(text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        match WEIGHTS.iter().any(|ending| lower.ends_with(ending)) {
            true => Choice::File(text.to_owned()),
            false => Choice::Quant(text.to_owned()),
        }
    }
}

fn is_part(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=LONGEST).contains(&part.len()) && part.bytes().all(allowed) && !part.starts_with('.') && !part.contains("..")
}

/// What is wrong with a revision. It names a file of the cache too.
fn bad_revision(revision: &str) -> Option<&'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./+".contains(&b);
    let outside = revision.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    match (revision.is_empty() || revision.len() > 256, revision.bytes().all(allowed) && !outside) {
        (false, true) => None,
        _ => Some("a revision is a branch, a tag or a commit, such as main or refs/pr/1"),
    }
}

/// Whether a revision is a full commit, which never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, Choice) {
        let ModelName { repo, revision, choice } = ModelName::parse(text).unwrap();
        (repo, revision, choice)
    }

    #[test]
    fn a_name_has_a_repository_and_may_have_a_revision_and_a_choice() {
        let own = |text: &str| text.to_owned();
        assert_eq!(parsed("a/b"), (own("a/b"), None, Choice::Default));
        assert_eq!(parsed("a/b:q4_k_m"), (own("a/b"), None, Choice::Quant(own("q4_k_m"))));
        assert_eq!(
            parsed("a/b@refs/pr/1:x/y.GGUF"),
            (own("a/b"), Some(own("refs/pr/1")), Choice::File(own("x/y.GGUF")))
        );
        assert_eq!(parsed("https://huggingface.co/a/b/").0, "a/b");
        assert_eq!(parsed("Mamba-130M@v1"), (own("state-spaces/mamba-130m-hf"), Some(own("v1")), Choice::Default));
        for text in ["a/b", "a/b@v1.0", "a/b:Q8_0", "a/b@main:x.gguf"] {
            assert_eq!(ModelName::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_form_of_names() {
        for (text, said) in [
            ("falcon", "no slash"),
            ("a/b/c", "two words"),
            ("a/..", "two words"),
            ("../b", "two words"),
            ("a/b c", "two words"),
            ("a/b--c", "two words"),
            ("/b", "two words"),
            ("a/b:", "follows the colon"),
            ("a/b@", "a branch"),
            ("a/b@../x", "a branch"),
            ("a/b@/x", "a branch"),
            ("a/b:Q4_K_M@v1", "before the colon"),
        ] {
            let error = ModelName::parse(text).expect_err(text).to_string();
            assert!(error.contains(said) && error.contains("user/repo:Q4_K_M"), "{text}: {error}");
        }
    }

    #[test]
    fn two_revisions_are_one_too_many() {
        let name = |text: &str| ModelName::parse(text).unwrap();
        assert_eq!(name("a/b").at("v1").unwrap().revision(), "v1");
        assert_eq!(name("a/b@v1").at("v1").unwrap().revision(), "v1");
        assert!(name("a/b@v1").at("v2").unwrap_err().to_string().contains("another revision"));
        assert!(name("a/b").at("..").is_err());
    }
}
