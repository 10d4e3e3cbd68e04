//! Short names of published models.

/// A short name and the repository that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortName {
    /// The name.
    pub name: &'static str,
    /// The repository on the hub.
    pub repo: &'static str,
}

const fn short(name: &'static str, repo: &'static str) -> ShortName {
    ShortName { name, repo }
}

/// All short names: models of the family in the layout of transformers, with a tokenizer.
pub const SHORT_NAMES: &[ShortName] = &[
    short("falcon-mamba-7b", "tiiuae/falcon-mamba-7b"),
    short("falcon-mamba-7b-instruct", "tiiuae/falcon-mamba-7b-instruct"),
    short("falcon3-mamba-7b", "tiiuae/Falcon3-Mamba-7B-Base"),
    short("falcon3-mamba-7b-instruct", "tiiuae/Falcon3-Mamba-7B-Instruct"),
    short("mamba-130m", "state-spaces/mamba-130m-hf"),
    short("mamba-370m", "state-spaces/mamba-370m-hf"),
    short("mamba-790m", "state-spaces/mamba-790m-hf"),
    short("mamba-1.4b", "state-spaces/mamba-1.4b-hf"),
    short("mamba-2.8b", "state-spaces/mamba-2.8b-hf"),
];

/// The repository of a short name, in any case of letters.
pub(super) fn repo(name: &str) -> Option<&'static str> {
    SHORT_NAMES.iter().find(|short| short.name.eq_ignore_ascii_case(name)).map(|short| short.repo)
}
