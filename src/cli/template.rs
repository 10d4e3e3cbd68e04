//! The chat template that the command line gives.

use clap::Args;
use peregrine::runtime::Checkpoint;
use peregrine::text::{Template, named_template, template_names};
use peregrine::{Error, Result};
use std::path::PathBuf;

/// Which chat template.
#[derive(Args)]
pub struct TemplateArgs {
    #[arg(
        long, value_name = "NAME|TEXT", conflicts_with = "chat_template_file", value_parser = named_or_text,
        help = format!("Chat template instead of the checkpoint's: Jinja text, or a name: {}", names())
    )]
    chat_template: Option<(String, String)>,
    /// A file with a chat template, in Jinja
    #[arg(long, value_name = "FILE")]
    chat_template_file: Option<PathBuf>,
}

fn names() -> String {
    template_names().collect::<Vec<_>>().join(", ")
}

/// A template with what to call it. Text of a template has braces; what has none is a name.
fn named_or_text(given: &str) -> Result<(String, String), String> {
    if given.contains('{') {
        return Ok(("--chat-template".to_owned(), given.to_owned()));
    }
    let (name, source) =
        named_template(given).ok_or_else(|| format!("no template is called so; there are {}", names()))?;
    Ok((name.to_owned(), source.to_owned()))
}

impl TemplateArgs {
    /// Puts the template in place of the checkpoint's, and says so.
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
        eprintln!("chat template: {name} instead of the checkpoint's");
        let template = Template::new(&name, &source)?;
        if !template.prints_messages() {
            let problem = "it prints nothing of what is said, so that the model would not read it";
            return Err(Error::Template { file: name, problem: problem.to_owned() });
        }
        checkpoint.set_template(template);
        Ok(())
    }
}
