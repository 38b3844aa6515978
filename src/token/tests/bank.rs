//! A bank that does as it is told, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::house::LIFE;
use crate::oauth::{NotSent, Reply, TokenEndpoint, TokenOutcome, TokenRequest};
use crate::words::clock::BootInstant;
use crate::words::said::Said;
use crate::words::secrets::{AccessToken, RefreshToken};
use crate::words::token_set::TokenSet;

/// A bank that rotates: each answer is a new pair, unless the script says otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Bank(Arc<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    presented: Mutex<Vec<String>>,
    scopes: Mutex<Vec<Option<String>>>,
    script: Mutex<VecDeque<TokenOutcome>>,
    besides: Mutex<VecDeque<(Said, Option<BootInstant>)>>,
    gate: Mutex<Option<watch::Receiver<bool>>>,
    unreachable: AtomicBool,
    connects: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Bank {
    pub(super) fn presented(&self) -> Vec<String> {
        self.0.presented.lock().expect("no panic").clone()
    }

    /// The scope of each refresh.
    pub(super) fn scopes(&self) -> Vec<Option<String>> {
        self.0.scopes.lock().expect("no panic").clone()
    }

    pub(super) fn say(&self, outcome: TokenOutcome) {
        self.0.script.lock().expect("no panic").push_back(outcome);
    }

    /// What is known of the next request besides its outcome, and when it left.
    pub(super) fn say_besides(&self, said: Said, left_at: Option<BootInstant>) {
        self.0.besides.lock().expect("no panic").push_back((said, left_at));
    }

    /// Holds answers back until it is told otherwise.
    pub(super) fn hold_answers(&self) -> watch::Sender<bool> {
        let (sender, receiver) = watch::channel(false);
        *self.0.gate.lock().expect("no panic") = Some(receiver);
        sender
    }

    pub(super) fn refuse_connections(&self, refuse: bool) {
        self.0.unreachable.store(refuse, Ordering::Release);
    }

    /// How often somebody came to the door, let in or not.
    pub(super) fn connects(&self) -> usize {
        self.0.connects.load(Ordering::Acquire)
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::Acquire)
    }
}

impl TokenEndpoint for Bank {
    type Connection = ();

    async fn connect(&self) -> Result<(), NotSent> {
        self.0.connects.fetch_add(1, Ordering::AcqRel);
        if self.0.unreachable.load(Ordering::Acquire) {
            return Err(NotSent::Unreachable("refused".to_owned()));
        }
        Ok(())
    }

    async fn send(&self, (): (), request: &TokenRequest<'_>) -> Reply {
        let presented = match request {
            TokenRequest::Refresh { refresh, scope } => {
                self.0.scopes.lock().expect("no panic").push(scope.map(|scope| scope.as_str().to_owned()));
                refresh.expose().to_owned()
            }
            TokenRequest::AuthorizationCode { code, .. } => code.expose().to_owned(),
            TokenRequest::ClientCredentials { .. } => "client".to_owned(),
        };
        let number = {
            let mut all = self.0.presented.lock().expect("no panic");
            all.push(presented);
            all.len()
        };
        let now = self.0.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.0.most.fetch_max(now, Ordering::AcqRel);
        let gate = self.0.gate.lock().expect("no panic").clone();
        match gate {
            Some(mut gate) => drop(gate.wait_for(|open| *open).await),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
        self.0.now.fetch_sub(1, Ordering::AcqRel);
        let scripted = self.0.script.lock().expect("no panic").pop_front();
        let outcome = scripted.unwrap_or_else(|| {
            TokenOutcome::Granted(TokenSet {
                access: AccessToken::new(format!("at-{number}")),
                expires_in: LIFE,
                refresh: Some(RefreshToken::new(format!("rt-{number}"))),
                scope: None,
            })
        });
        let (said, left_at) = self.0.besides.lock().expect("no panic").pop_front().unwrap_or_default();
        Reply { outcome, said, left_at }
    }

    fn certificate(&self) -> Option<String> {
        None
    }
}
