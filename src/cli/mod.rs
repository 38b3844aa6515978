//! The command line: one file per command, each from its arguments to its exit code.
//!
//! Results go to standard output, everything else to standard error. With `--json` a result is one JSON document.

mod advice;
mod browser;
mod call;
mod check;
mod consent;
mod curl;
#[cfg(feature = "sandbox")]
mod demo;
mod ending;
mod exit;
mod health;
mod keygen;
mod list;
mod login;
mod manual;
mod notify;
mod out;
mod provider;
mod reload;
mod run;
mod running;
#[cfg(feature = "sandbox")]
mod sandbox;
mod signals;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Failure;

/// Sits beside an app and adds the access token of a consent to its calls to a bank's API.
#[derive(Debug, Parser)]
#[command(name = "consentry", version, about, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// Print the result as one JSON document.
    #[arg(long, global = true, env = "CONSENTRY_JSON")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it all on this machine: two imitated banks, a store, the proxy, and a consent at each bank.
    #[cfg(feature = "sandbox")]
    Demo(demo::Arguments),
    /// Run the proxy.
    Run(run::Arguments),
    /// Read a configuration and say everything that is wrong with it.
    Check(check::Arguments),
    /// Start consents, look at them, and bring in those whose tokens you already hold.
    Consent(consent::Arguments),
    /// Consent at a bank as its customer, with a browser on this machine, and wait until that is done.
    Login(login::Arguments),
    /// Call a bank's API with a consent's token, through the process that runs.
    Curl(curl::Arguments),
    /// Freeze providers, thaw them, and look at how they stand.
    Provider(provider::Arguments),
    /// Look at where tokens are kept.
    Store(store::Arguments),
    /// Say whether the process that runs with a configuration is ready; fail unless it is.
    Health(health::Arguments),
    /// Wait until the process that runs with a configuration is ready.
    Wait(health::Wait),
    /// Print a new key for sealing tokens.
    Keygen,
    /// Print a script that has a shell complete these commands.
    Completions(manual::Completions),
    /// Print the manual page.
    Man(manual::Man),
    /// Run the imitated banks alone, to develop against.
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Arguments),
}

/// Parses the command line, runs the command, and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    let done = match cli.command {
        #[cfg(feature = "sandbox")]
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments, cli.json),
        Command::Consent(arguments) => consent::run(arguments, cli.json),
        Command::Login(arguments) => login::run(&arguments, cli.json),
        Command::Curl(arguments) => curl::run(&arguments, cli.json),
        Command::Provider(arguments) => provider::run(arguments, cli.json),
        Command::Store(arguments) => store::run(arguments, cli.json),
        Command::Health(arguments) => health::run(&arguments, cli.json),
        Command::Wait(arguments) => health::wait(&arguments),
        Command::Completions(arguments) => {
            manual::completions(&arguments);
            Ok(())
        }
        Command::Man(arguments) => manual::man(&arguments),
        Command::Keygen => {
            keygen::run(cli.json);
            Ok(())
        }
        #[cfg(feature = "sandbox")]
        Command::Sandbox(arguments) => sandbox::run(&arguments, cli.json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::failed(&failure),
    }
}

/// The runtime that a command's asynchronous part runs on.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the runtime cannot be started: {error}")))
}
