//! Built-in chat templates by llama.cpp's names, for checkpoints without one.

macro_rules! named {
    ($($name:literal),*) => { &[$(($name, include_str!(concat!("named/", $name, ".jinja")))),*] };
}

/// Names and templates.
const NAMED: &[(&str, &str)] = named!(
    "chatml",
    "falcon3",
    "gemma",
    "granite",
    "llama2",
    "llama3",
    "mistral-v1",
    "mistral-v3",
    "mistral-v7",
    "monarch",
    "openchat",
    "phi3",
    "phi4",
    "vicuna",
    "zephyr"
);

/// ChatML, the most common chat format.
pub const CHATML: &str = NAMED[0].1;

/// The canonical name and source of a template; the case of `name` does not matter.
pub fn named_template(name: &str) -> Option<(&'static str, &'static str)> {
    NAMED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).copied()
}

/// The names of the built-in templates.
pub fn template_names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name)
}
