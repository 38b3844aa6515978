//! What `consentry consent` has a bank asked: how a consent stands there, and that it ends.

use std::time::Duration;

use http::Method;
use http::header::IF_MATCH;
use serde_json::{Value, json};

use super::call::Call;
use super::consent::tag;
use super::exit::Failure;
use super::run::failed;
use super::running::{ask_running, open};
use crate::app::desks;
use crate::config::Config;
use crate::consent::{RevokeRequest, revoke, show};
use crate::words::clock::SystemClock;
use crate::words::ids::ConsentId;

/// The bank may want the consent's own token, and a refresh that it needs wants a process with a spill.
pub(super) async fn info_through(config: &Config, id: &ConsentId) -> Result<Value, Failure> {
    let path = format!("/v1/consents/{}/info", id.as_str());
    let call = Call::new(Method::GET, &path).within(ASKING_A_BANK);
    ask_running(config, call).await?.ok_or_else(|| {
        Failure::Unavailable("no process runs with this configuration that could ask the bank".to_owned())
    })
}

pub(super) async fn revoke_in(mut config: Config, id: &ConsentId, request: RevokeRequest) -> Result<Value, Failure> {
    let query = if request.only_here { "?only_here=true" } else { "" };
    let path = format!("/v1/consents/{}{query}", id.as_str());
    let mut call = Call::new(Method::DELETE, &path).within(ASKING_A_BANK);
    if let Some(version) = request.expected {
        call.headers.insert(IF_MATCH, tag(version)?);
    }
    if let Some(view) = ask_running(&config, call).await? {
        return Ok(view);
    }
    let desks = desks(std::mem::take(&mut config.desks)).map_err(|error| failed(&error))?;
    let tokens = open(config)?;
    if let Ok(view) = show(&tokens, &SystemClock, id).await
        && !request.only_here
        && desks.get(&view.provider).is_some_and(|desk| desk.revokes_with_the_consents_token())
    {
        // It may have to be refreshed, and there is no spill for what that brings.
        let why = "no process runs with this configuration, and this bank is asked with the consent's own token";
        return Err(Failure::Unavailable(why.to_owned()));
    }
    let revoked = revoke(&tokens, &desks, id, request).await;
    let revoked = revoked.map_err(|error| Failure::Other(error.to_string()))?;
    Ok(json!({
        "consent_id": id.as_str(), "state": revoked.state, "at_bank": revoked.at_bank, "here": "revoked",
        "do": revoked.at_bank.advice(),
    }))
}

/// As long as a process that asks a bank may take for it.
const ASKING_A_BANK: Duration = Duration::from_secs(35);

pub(super) const REVOKE_HELP: &str = "The answer says what is revoked where. Where the bank says no, or cannot be asked, nothing \
changes here either, since what is stored is all that the bank can be asked with; ask again later, or use --only-here. \
Asking again is always safe.";
