//! Opens an address in the person's browser.

use std::process::{Command, Stdio};

/// Opens it, if a program is there that does so. It is not waited for, and nothing passes through a shell.
pub(super) fn open(url: &str, chosen: Option<&str>) -> bool {
    let default = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let words: Vec<&str> = chosen.unwrap_or(default).split_ascii_whitespace().collect();
    let Some((program, more)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    let mut named = false;
    for word in more {
        named |= *word == "%s";
        command.arg(if *word == "%s" { url } else { word });
    }
    if !named {
        command.arg(url);
    }
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_opens_nothing() {
        assert!(!open("https://bank.example/", Some("/nowhere/browser %s")));
        assert!(!open("https://bank.example/", Some(" ")));
        assert!(open("https://bank.example/", Some("true --new-window %s")));
    }
}
