//! Flags that constrain the answer, named as in llama.cpp.

use super::exit::usage_error;
use anyhow::Context;
use clap::Args;
use peregrine::runtime::Checkpoint;
use peregrine::text::{Constraint, Grammar};
use std::path::{Path, PathBuf};

#[derive(Args)]
#[group(multiple = false)]
pub struct ConstraintArgs {
    /// Answer in JSON that this JSON schema allows: a schema such as {"type": "object"}, or a file with one
    #[arg(short, long, value_name = "SCHEMA|FILE")]
    json_schema: Option<String>,
    /// Answer in JSON that the schema in FILE allows
    #[arg(long, value_name = "FILE")]
    json_schema_file: Option<PathBuf>,
    /// Answer with a text of this grammar, in Lark: start: "yes" | "no"
    #[arg(long, value_name = "GRAMMAR", allow_hyphen_values = true)]
    grammar: Option<String>,
    /// Answer with a text of the grammar in FILE
    #[arg(long, value_name = "FILE")]
    grammar_file: Option<PathBuf>,
    /// Answer with a text that this regular expression matches from beginning to end
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true)]
    regex: Option<String>,
}

impl ConstraintArgs {
    /// The grammar that the flags ask for, compiled for a model.
    pub fn grammar(&self, checkpoint: &Checkpoint) -> anyhow::Result<Option<Grammar>> {
        let Some(constraint) = self.constraint()? else { return Ok(None) };
        Ok(Some(checkpoint.grammar(&constraint)?))
    }

    fn constraint(&self) -> anyhow::Result<Option<Constraint>> {
        Ok(match self {
            ConstraintArgs { json_schema: Some(text), .. } if text.trim_start().starts_with('{') => {
                Some(schema("--json-schema", text)?)
            }
            ConstraintArgs { json_schema: Some(file), .. } => Some(schema(file, &read(Path::new(file))?)?),
            ConstraintArgs { json_schema_file: Some(file), .. } => Some(schema(&file.to_string_lossy(), &read(file)?)?),
            // llama.cpp takes an empty grammar for none.
            ConstraintArgs { grammar: Some(text), .. } if text.is_empty() => None,
            ConstraintArgs { grammar: Some(text), .. } => Some(Constraint::Lark(text.clone())),
            ConstraintArgs { grammar_file: Some(file), .. } => Some(Constraint::Lark(read(file)?)),
            ConstraintArgs { regex: Some(text), .. } => Some(Constraint::Regex(text.clone())),
            _ => None,
        })
    }
}

fn schema(from: &str, text: &str) -> anyhow::Result<Constraint> {
    let schema = serde_json::from_str(text).map_err(|error| usage_error(format!("{from}: not JSON: {error}")))?;
    Ok(Constraint::JsonSchema(schema))
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn parsed(arguments: &[&str]) -> Result<ConstraintArgs, clap::Error> {
        let matches =
            ConstraintArgs::augment_args(Command::new("p")).try_get_matches_from([&["p"], arguments].concat())?;
        ConstraintArgs::from_arg_matches(&matches)
    }

    #[test]
    fn each_flag_gives_its_constraint_and_two_do_not_go_together() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x").to_string_lossy().into_owned();
        std::fs::write(&file, "{\"type\": \"null\"}").unwrap();
        let null = || Some(Constraint::JsonSchema(serde_json::json!({"type": "null"})));
        for (arguments, expected) in [
            (&[][..], None),
            (&["-j", "{\"type\": \"null\"}"], null()),
            (&["--json-schema", &file], null()),
            (&["--json-schema-file", &file], null()),
            (&["--grammar", ""], None),
            (&["--grammar", "start: \"a\""], Some(Constraint::Lark("start: \"a\"".to_owned()))),
            (&["--grammar-file", &file], Some(Constraint::Lark("{\"type\": \"null\"}".to_owned()))),
            (&["--regex", "-?[0-9]+"], Some(Constraint::Regex("-?[0-9]+".to_owned()))),
        ] {
            assert_eq!(parsed(arguments).unwrap().constraint().unwrap(), expected, "{arguments:?}");
        }
        assert!(parsed(&["--regex", "a", "--grammar", "b"]).is_err());
        let error = |arguments: &[&str]| parsed(arguments).unwrap().constraint().unwrap_err().to_string();
        assert!(error(&["-j", "{"]).contains("--json-schema: not JSON"));
        assert!(error(&["-j", "no-such-file"]).contains("cannot read no-such-file"));
    }
}
