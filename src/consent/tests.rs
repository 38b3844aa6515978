//! Importing and showing, against the embedded store.

use std::time::Duration;

use super::import::sow;
use super::show::show_within;
use super::testing::{Bench, Fault, consent_id, provider_id};
use super::{ConsentView, ImportError, ImportRequest, Imported, Made, Received, ShowError, import, show};
use crate::store::{Sealed, Seed, Store as _};
use crate::token::Ask;
use crate::words::clock::Clock as _;
use crate::words::ids::{Fingerprint, GrantId, TokenKey, Version};

const HOUR: Duration = Duration::from_secs(3_600);
const AT_ONCE: Duration = Duration::ZERO;

impl Bench {
    async fn import(&self, request: ImportRequest, expected: Option<Version>) -> Result<Imported, ImportError> {
        let outcome = import(&self.tokens, &self.clock, &consent_id(), request, expected).await;
        let told = match &outcome {
            Ok(imported) => format!("{imported:?} {}", serde_json::to_string(&imported.view).unwrap()),
            Err(error) => format!("{error:?} {error}"),
        };
        assert!(!told.contains("CANARY"), "{told}");
        assert_eq!(self.bank.calls(), 0, "an import never turns to the bank");
        outcome
    }

    /// Imports a first token set.
    async fn first(&self) -> Version {
        let imported = self.import(self.request("CANARY-a1", "CANARY-r1"), None).await.unwrap();
        assert_eq!(imported.made, Made::Created);
        imported.view.version()
    }

    /// The bearer that a call with this consent would carry.
    async fn bearer(&self) -> String {
        let key = TokenKey::Consent(consent_id());
        let ask = Ask { key: &key, provider: &provider_id(), client: None, wait: Duration::from_secs(5) };
        self.tokens.token(&ask).await.unwrap().bearer.to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_is_imported_is_what_calls_then_carry() {
    let bench = Bench::new();
    let version = bench.first().await;
    assert_eq!(version.generation, 1);
    assert_eq!(bench.bearer().await, "Bearer CANARY-a1");
}

#[tokio::test]
async fn what_an_import_answers_is_what_is_shown_after_it() {
    let bench = Bench::new();
    let view = bench.import(bench.request("CANARY-a", "CANARY-r"), None).await.unwrap().view;
    assert_eq!(view, show(&bench.tokens, &bench.clock, &consent_id()).await.unwrap());
    let json = serde_json::to_value(&view).unwrap();
    let wanted = serde_json::json!({
        "consent_id": "customer-4711", "state": "active", "provider": "bank", "scope": "accounts",
        "grant": view.grant.to_string(), "generation": 1,
        "access_token_expires_in": 3600, "access_token_expires_at": "2025-10-09T09:53:20Z",
        "consent_expires_at": null, "bank_consent_id": "b-1",
        "refresh_token_fingerprint": view.refresh_token_fingerprint.unwrap().to_string(),
        "holder": null, "sends": 0, "failures": 0, "backoff": null, "why": null,
    });
    assert_eq!(json, wanted);
}

#[tokio::test]
async fn an_existing_consent_is_replaced_only_by_who_names_its_version() {
    let bench = Bench::new();
    let first = bench.first().await;
    let again = || bench.request("CANARY-a2", "CANARY-r2");
    assert_eq!(bench.import(again(), None).await, Err(ImportError::AlreadyExists { current: first }));
    let foreign = Version::first(GrantId::random());
    for stale in [foreign, first.next()] {
        assert_eq!(bench.import(again(), Some(stale)).await, Err(ImportError::Mismatch { current: first }));
    }
    assert_eq!(bench.bearer().await, "Bearer CANARY-a1");

    let replaced = bench.import(again(), Some(first)).await.unwrap();
    assert_eq!(replaced.made, Made::Replaced);
    assert_ne!(replaced.view.grant, first.grant, "an import is a new grant");
    assert_eq!(bench.bearer().await, "Bearer CANARY-a2", "what was held is checked before use");
    let record = bench.tokens.store().read(&TokenKey::Consent(consent_id())).await.unwrap().unwrap();
    assert_eq!(record.replaced.unwrap().1, first, "the replaced refresh token is kept");
    assert_eq!(record.certificate.as_deref(), Some("thumbprint"));
}

#[tokio::test]
async fn a_process_that_follows_the_store_turns_to_what_replaced_its_token() {
    let bench = Bench::new();
    let following = bench.tokens.clone();
    let follower = tokio::spawn(async move { following.follow().await });
    let turned = async {
        while !bench.tokens.is_linked() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let first = bench.first().await;
        assert_eq!(bench.bearer().await, "Bearer CANARY-a1");
        bench.import(bench.request("CANARY-a2", "CANARY-r2"), Some(first)).await.unwrap();
        while bench.bearer().await != "Bearer CANARY-a2" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), turned).await.expect("the change is told");
    follower.abort();
}

#[tokio::test]
async fn there_is_nothing_to_replace_where_nothing_is() {
    let bench = Bench::new();
    let expected = Some(Version::first(GrantId::random()));
    assert_eq!(bench.import(bench.request("CANARY-a", "CANARY-r"), expected).await, Err(ImportError::Missing));
    assert_eq!(show(&bench.tokens, &bench.clock, &consent_id()).await, Err(ShowError::Unknown));
}

#[tokio::test]
async fn a_consent_that_ended_may_be_given_again() {
    let bench = Bench::new();
    bench.first().await;
    bench.revoke(&consent_id()).await;
    assert_eq!(show(&bench.tokens, &bench.clock, &consent_id()).await.unwrap().state, "revoked");
    let imported = bench.import(bench.request("CANARY-a2", "CANARY-r2"), None).await.unwrap();
    assert_eq!((imported.made, imported.view.state), (Made::Created, "active"));
}

#[tokio::test]
async fn a_refresh_token_that_is_being_spent_is_refused() {
    let bench = Bench::new();
    let current = bench.first().await;
    bench.spend(&consent_id()).await;
    let same = bench.import(bench.request("CANARY-a1", "CANARY-r1"), Some(current)).await;
    assert_eq!(same, Err(ImportError::Spent { current }));
    let view = show(&bench.tokens, &bench.clock, &consent_id()).await.unwrap();
    assert_eq!((view.version(), view.sends, view.state), (current, 1, "active"));
    assert_eq!(view.holder.unwrap().as_str(), "other/1");
}

#[tokio::test]
async fn a_provider_that_is_not_configured_is_unknown() {
    let bench = Bench::new();
    let json = br#"{"provider": "elsewhere", "access_token": "CANARY", "expires_in": 1}"#;
    let request = ImportRequest::parse(json, Received::now(&bench.clock)).unwrap();
    assert_eq!(bench.import(request, None).await, Err(ImportError::UnknownProvider));
}

#[tokio::test]
async fn an_import_whose_answer_was_lost_is_repeated_as_the_same_grant() {
    let bench = Bench::new();
    bench.faults.next([Fault::Unavailable(AT_ONCE), Fault::LostReply]);
    let imported = bench.import(bench.request("CANARY-a", "CANARY-r"), None).await.unwrap();
    assert_eq!((imported.made, bench.faults.left()), (Made::Created, 0));
    let view = show(&bench.tokens, &bench.clock, &consent_id()).await.unwrap();
    assert_eq!(view, imported.view);

    bench.faults.next([Fault::LostReply]);
    let expected = Some(view.version());
    let replaced = bench.import(bench.request("CANARY-a2", "CANARY-r2"), expected).await.unwrap();
    assert_eq!(replaced.made, Made::Replaced);
    assert_eq!(show(&bench.tokens, &bench.clock, &consent_id()).await.unwrap(), replaced.view);
}

#[tokio::test]
async fn time_spent_on_the_way_is_taken_off_the_tokens_life() {
    let bench = Bench::new();
    let request = bench.request("CANARY-a", "CANARY-r");
    bench.clock.advance(Duration::from_secs(5));
    bench.faults.next([Fault::Unavailable(Duration::from_secs(7))]);
    bench.import(request, None).await.unwrap();
    let view = show(&bench.tokens, &bench.clock, &consent_id()).await.unwrap();
    assert_eq!(view.access_token_expires_in, Some(Duration::from_secs(3_588)));
}

#[tokio::test]
async fn a_token_that_has_expired_is_taken_and_never_sent() {
    let bench = Bench::new();
    let json = br#"{"provider": "bank", "access_token": "CANARY", "expires_in": 0}"#;
    let request = ImportRequest::parse(json, Received::now(&bench.clock)).unwrap();
    let view = bench.import(request, None).await.unwrap().view;
    assert_eq!((view.access_token_expires_in, view.access_token_expires_at), (Some(AT_ONCE), None));
    assert_eq!(view.refresh_token_fingerprint, None);
    let key = TokenKey::Consent(consent_id());
    let ask = Ask { key: &key, provider: &provider_id(), client: None, wait: Duration::from_secs(5) };
    assert!(bench.tokens.token(&ask).await.is_err());
}

#[tokio::test]
async fn a_store_that_stays_away_refuses_or_does_not_understand_is_told_apart() {
    let bench = Bench::new();
    let away = Fault::Unavailable(AT_ONCE);
    let refused = || bench.import(bench.request("CANARY-a", "CANARY-r"), None);
    bench.faults.next([away, away, away]);
    assert!(matches!(refused().await, Err(ImportError::StoreUnavailable(_))));
    bench.faults.next([Fault::Refused]);
    assert!(matches!(refused().await, Err(ImportError::StoreRefused(_))));
    bench.faults.next([away, Fault::Unreadable]);
    assert!(matches!(refused().await, Err(ImportError::Unreadable(_))));
    assert_eq!(bench.faults.left(), 0);
    for (fault, wanted) in [(Fault::Refused, "refused"), (Fault::Unreadable, "cannot be read")] {
        bench.faults.next([fault]);
        let error = show(&bench.tokens, &bench.clock, &consent_id()).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_says_nothing_is_not_waited_for_without_end() {
    let bench = Bench::new();
    let (key, soon) = (TokenKey::Consent(consent_id()), Duration::from_millis(20));
    let seed = seed(bench.first().await);
    bench.faults.next([Fault::Silence; 3]);
    let until = bench.clock.boot().plus(HOUR);
    let error = sow(bench.tokens.store(), &bench.clock, &key, seed, until, soon).await.unwrap_err();
    assert!(matches!(error, ImportError::StoreUnavailable(_)), "{error:?}");
    bench.faults.next([Fault::Silence]);
    let error = show_within(soon, bench.tokens.store(), &bench.clock, &consent_id()).await.unwrap_err();
    assert!(matches!(error, ShowError::StoreUnavailable(_)), "{error:?}");
    assert_eq!(bench.faults.left(), 0);
}

#[tokio::test]
async fn a_set_that_was_renewed_before_the_answer_came_is_shown_without_what_that_changed() {
    let bench = Bench::new();
    let first = bench.first().await;
    let view = ConsentView::of_import(&consent_id(), &seed(first), first.next(), &bench.clock);
    assert_eq!(view.version(), first.next());
    assert_eq!((view.access_token_expires_in, view.refresh_token_fingerprint), (None, None));
}

fn seed(version: Version) -> Seed {
    Seed {
        provider: provider_id(),
        grant: version.grant,
        expected: None,
        age: None,
        access: Sealed::from_bytes(*b"access"),
        refresh: Some(Sealed::from_bytes(*b"refresh")),
        refresh_fingerprint: Some(Fingerprint::from_bytes([1; 16])),
        remaining: HOUR,
        life: HOUR,
        scope: None,
        bank_consent_id: None,
        consent_expires_at: None,
        certificate: None,
    }
}
