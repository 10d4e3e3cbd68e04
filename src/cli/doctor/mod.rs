//! `peregrine doctor`: what is wrong with this machine's drivers and folders, and what to install.

mod diagnosis;
mod facts;
#[cfg(test)]
mod tests;

use clap::Args;
use diagnosis::{Finding, Level, findings};
use facts::Facts;
use peregrine::gpu::cache_dir;
use peregrine::hub::HubSettings;
use serde_json::json;
use std::io::Write;

#[derive(Args)]
pub struct Doctor {
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Something does not work; it has been printed.
#[derive(Debug)]
struct Problems(usize);

impl std::error::Error for Problems {}
impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} to mend, see above",
            if self.0 == 1 { "1 problem".to_owned() } else { format!("{} problems", self.0) }
        )
    }
}

impl Doctor {
    pub fn run(self) -> anyhow::Result<()> {
        let models = HubSettings::from_env().map(|settings| settings.cache);
        let facts = Facts::gather(cache_dir(), models.as_ref().ok().cloned());
        let mut findings = findings(&facts);
        if let Err(error) = models {
            let (said, advice) = (error.to_string(), Some("correct it, or unset it".to_owned()));
            findings.push(Finding { level: Level::Problem, said, advice });
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            let all = findings
                .iter()
                .map(|finding| json!({ "level": word(finding.level), "said": finding.said, "advice": finding.advice }));
            let all: Vec<_> = all.collect();
            let (version, system) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS);
            let document = json!({
                "peregrine": version, "commit": env!("PEREGRINE_COMMIT"), "os": system, "arch": std::env::consts::ARCH,
                "findings": all,
            });
            writeln!(out, "{document:#}")?;
        } else {
            let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("PEREGRINE_COMMIT"));
            let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
            writeln!(out, "peregrine {version} {commit} on {os} {arch}")?;
            for Finding { level, said, advice } in &findings {
                writeln!(out, "{:<8} {said}", word(*level))?;
                if let Some(advice) = advice {
                    writeln!(out, "         -> {advice}")?;
                }
            }
        }
        let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
        if problems > 0 {
            return Err(Problems(problems).into());
        }
        if !self.json {
            writeln!(out, "Nothing is wrong. `peregrine selftest --quick` checks what the driver computes.")?;
        }
        Ok(())
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Fine => "fine",
        Level::Note => "note",
        Level::Problem => "problem",
    }
}
