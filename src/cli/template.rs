//! `--chat-template` and `--chat-template-file`.

use clap::Args;
use peregrine::runtime::Checkpoint;
use peregrine::text::{Template, named_template, template_names};
use peregrine::{Error, Result};
use std::path::PathBuf;

/// Chat template override.
#[derive(Args)]
pub struct TemplateArgs {
    #[arg(
        long, value_name = "NAME|TEXT", conflicts_with = "chat_template_file", value_parser = parse_template,
        help = format!("Chat template to use instead of the checkpoint's: Jinja text, or one of {}", names())
    )]
    chat_template: Option<(String, String)>,
    /// File with a Jinja chat template to use instead of the checkpoint's
    #[arg(long, value_name = "FILE")]
    chat_template_file: Option<PathBuf>,
}

fn names() -> String {
    template_names().collect::<Vec<_>>().join(", ")
}

/// Parses a value into the template's label and source. Text with braces is a template, other text a name.
fn parse_template(given: &str) -> Result<(String, String), String> {
    if given.contains('{') {
        return Ok(("--chat-template".to_owned(), given.to_owned()));
    }
    let (name, source) = named_template(given).ok_or_else(|| format!("unknown template; available: {}", names()))?;
    Ok((name.to_owned(), source.to_owned()))
}

impl TemplateArgs {
    /// Replaces the checkpoint's template, with a note on stderr.
    pub fn apply(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        let (name, source) = match (&self.chat_template, &self.chat_template_file) {
            (None, None) => return Ok(()),
            (Some(named), _) => named.clone(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path);
                let fail = |problem| Error::Io { doing: "read", path: path.clone(), problem };
                (path.display().to_string(), text.map_err(fail)?)
            }
        };
        eprintln!("using chat template {name} instead of the checkpoint's");
        let template = Template::new(&name, &source)?;
        if !template.prints_messages() {
            let problem = "it does not print the messages, so the model would not see them";
            return Err(Error::Template { file: name, problem: problem.to_owned() });
        }
        checkpoint.set_template(template);
        Ok(())
    }
}
