//! Chat templates by name, for models whose checkpoint brings none. The names are llama.cpp's.

macro_rules! named {
    ($($name:literal),*) => { &[$(($name, include_str!(concat!("named/", $name, ".jinja")))),*] };
}

/// Each name with its template.
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

/// ChatML, which most models that chat were trained on.
pub const CHATML: &str = NAMED[0].1;

/// The template of a name, whose case does not matter, and the name as it is listed.
pub fn named_template(name: &str) -> Option<(&'static str, &'static str)> {
    NAMED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).copied()
}

/// The names, in order.
pub fn template_names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name)
}
