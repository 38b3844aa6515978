//! `consentry sandbox`: the imitated banks alone.

use std::fs;
use std::path::PathBuf;

use super::exit::Failure;
use super::run::{chain, prepare};
use super::{out, runtime, signals};
use crate::config::{LogFormat, LogSettings};
use crate::net::shutdown::Shutdown;
use crate::sandbox::settings::{Ports, SandboxSettings};
use crate::sandbox::{Sandbox, SandboxError};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where to write the certificates and endpoints.json; made if it is not there.
    #[arg(long, value_name = "FOLDER", env = "CONSENTRY_SANDBOX_FILES")]
    files: Option<PathBuf>,
    /// The first of six ports in a row: token endpoint and APIs of ABN AMRO, the same of Norsk Gjeldsinformasjon,
    /// control, pages for a browser.
    #[arg(long, value_name = "PORT", env = "CONSENTRY_SANDBOX_FIRST_PORT")]
    first_port: Option<u16>,
    /// Serve the APIs in plain HTTP.
    #[arg(long, env = "CONSENTRY_SANDBOX_PLAIN_APIS")]
    plain_apis: bool,
    /// Serve the pages for a browser in plain HTTP.
    #[arg(long, env = "CONSENTRY_SANDBOX_PLAIN_PAGES")]
    plain_pages: bool,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    prepare(&LogSettings { format: LogFormat::Auto, level: "warn".to_owned() })?;
    let settings = SandboxSettings {
        ports: arguments.first_port.map_or(Ok(Ports::default()), ports)?,
        plain_apis: arguments.plain_apis,
        plain_pages: arguments.plain_pages,
        ..SandboxSettings::default()
    };
    runtime()?.block_on(async {
        let sandbox = Sandbox::start(settings).await.map_err(|error| failed(&error))?;
        if let Some(folder) = &arguments.files {
            fs::create_dir_all(folder)
                .map_err(|error| Failure::Other(format!("{} cannot be made: {error}", folder.display())))?;
            sandbox.write_files(folder).map_err(|error| failed(&error))?;
        }
        let endpoints = sandbox.endpoints();
        if json {
            out::say_json(&serde_json::to_value(endpoints).unwrap_or_default());
        } else {
            out::say("Two imitated banks; everything is in memory and made up.");
            out::say(&format!(
                "  ABN AMRO, for a customer's browser       {}",
                endpoints.abn_amro.authorization_endpoint
            ));
            out::say(&format!("  ABN AMRO, token endpoint (mutual TLS)    {}", endpoints.abn_amro.token_endpoint));
            out::say(&format!("  ABN AMRO, APIs                           {}", endpoints.abn_amro.api));
            let browser = &endpoints.norsk_gjeld.authorization_endpoint;
            out::say(&format!("  Norsk Gjeldsinformasjon, for a browser   {browser}"));
            out::say(&format!("  Norsk Gjeldsinformasjon, token endpoint  {}", endpoints.norsk_gjeld.token_endpoint));
            out::say(&format!("  Norsk Gjeldsinformasjon, APIs            {}", endpoints.norsk_gjeld.api));
            out::say(&format!("  control                                  {}", endpoints.control));
            if let Some(folder) = &arguments.files {
                out::say(&format!("Certificates and endpoints.json are in {}.", folder.display()));
            }
        }
        let shutdown = Shutdown::new();
        tokio::spawn(signals::listen(shutdown.clone()));
        sandbox.run(shutdown).await;
        Ok(())
    })
}

fn ports(first: u16) -> Result<Ports, Failure> {
    let port = |offset| {
        let after = || Failure::Usage("--first-port leaves no room for six ports".to_owned());
        first.checked_add(offset).ok_or_else(after)
    };
    Ok(Ports {
        abn_token: port(0)?,
        abn_api: port(1)?,
        nogi_access: port(2)?,
        nogi_api: port(3)?,
        control: port(4)?,
        pages: port(5)?,
    })
}

/// With its cause, which names the port or file.
pub(super) fn failed(error: &SandboxError) -> Failure {
    Failure::Unavailable(chain(error))
}
