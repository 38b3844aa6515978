//! `consentry completions` and `consentry man`: what a package installs beside the program.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::exit::Failure;
use super::{Cli, out};

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write a page for every command into this folder, in place of printing the first one.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Prints a script that has the shell complete our commands.
pub(super) fn completions(arguments: &Completions) {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), NAME, &mut script);
    out::say(String::from_utf8_lossy(&script).trim_end());
}

/// Prints the manual page, or writes all of them.
pub(super) fn man(arguments: &Man) -> Result<(), Failure> {
    let Some(folder) = &arguments.folder else {
        out::say(String::from_utf8_lossy(&page(Cli::command())).trim_end());
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|why| cannot(folder, &why))?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(|why| cannot(folder, &why))
}

fn page(command: clap::Command) -> Vec<u8> {
    let mut page = Vec::new();
    // Writing into memory does not fail.
    let _ = clap_mangen::Man::new(command).render(&mut page);
    page
}

fn cannot(path: &Path, why: &std::io::Error) -> Failure {
    Failure::Other(format!("{} cannot be written: {why}", path.display()))
}

const NAME: &str = "consentry";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_has_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).expect("text");
            for name in ["check", "revoke", "wait"] {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        man(&Man { folder: Some(folder.path().to_owned()) }).expect("writes");
        for name in ["consentry", "consentry-run", "consentry-consent-revoke", "consentry-store"] {
            let page = fs::read_to_string(folder.path().join(format!("{name}.1"))).expect(name);
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(!folder.path().join("consentry-help.1").exists());
    }
}
