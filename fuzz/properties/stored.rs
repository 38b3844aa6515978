//! What is read back: a bank's token answer, a stored record, a sealed value, the operator's file.

use std::fs;

use consentry::config::Config;
use consentry::oauth::{TokenOutcome, read_answer};
use consentry::store::Sealed;
use consentry::store::record::Record;
use consentry::store::seal::{Binding, Field, Keyring, SealKey};
use consentry::words::clock::WallTime;
use consentry::words::ids::{ConsentId, GrantId, ProviderId, TokenKey, Version};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// The first byte chooses the status, the rest is the body.
pub(super) fn token_answer(data: &[u8]) {
    const STATUSES: [u16; 10] = [200, 201, 204, 302, 400, 401, 403, 429, 500, 503];
    let Some((first, body)) = data.split_first() else { return };
    let status = StatusCode::from_u16(STATUSES[usize::from(*first) % STATUSES.len()]).expect("a status");
    match read_answer(status, &HeaderMap::new(), body, WallTime::from_millis(1_800_000_000_000)) {
        TokenOutcome::Granted(set) => {
            assert!(status.is_success());
            assert!(!set.access.expose().is_empty());
            assert!(set.expires_in.as_secs() <= 30 * 24 * 3_600);
        }
        TokenOutcome::Unreadable { body: kept, .. } => {
            assert!(status.is_success());
            assert_eq!(*kept, body, "not a byte of it is lost");
        }
        TokenOutcome::InvalidGrant => {
            assert!(status.is_client_error());
            let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
            let first = serde_json::Deserializer::from_slice(text).into_iter::<Value>().next();
            let error = first.and_then(Result::ok).and_then(|value| value["error"].as_str().map(str::to_owned));
            assert_eq!(error.as_deref(), Some("invalid_grant"), "only the bank's own word refuses a refresh token");
        }
        TokenOutcome::NotProcessed { .. } | TokenOutcome::Misconfigured { .. } => {
            assert!(!status.is_success() && !status.is_server_error(), "{status} says nothing of the kind");
        }
        TokenOutcome::Unknown { .. } => assert!(!body.is_empty() || status != StatusCode::OK),
        TokenOutcome::NotSent(_) => panic!("there was an answer"),
    }
}

/// Lines of `field=value` over an empty record. What can be read is written as it was.
pub(super) fn record(data: &[u8]) {
    let version = Version { grant: GrantId::parse(GRANT).expect("a grant"), generation: 3 };
    let empty = Record::empty(provider(), version.grant);
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> =
        empty.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (line[..at].to_vec(), line[at + 1..].to_vec());
        fields.retain(|(known, _)| *known != name);
        fields.push((name, value));
    }
    let Ok(read) = Record::from_fields(&fields) else { return };
    let written: Vec<(Vec<u8>, Vec<u8>)> =
        read.to_fields().into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect();
    assert_eq!(Record::from_fields(&written).as_ref(), Ok(&read), "what is read is written and read again");
}

const GRANT: &str = "00112233445566778899aabbccddeeff";

fn provider() -> ProviderId {
    ProviderId::parse("bank").expect("a name")
}

/// As an envelope the bytes do not open; as a secret they come back, from their own place alone, and unaltered.
pub(super) fn envelope(data: &[u8]) {
    let key = SealKey::from_bytes("test", &[7; 32]).expect("a key");
    let keyring = Keyring::new(vec![key]).expect("a keyring");
    let (provider, consent) = (provider(), ConsentId::parse("c-1").expect("an id"));
    let version = Version { grant: GrantId::parse(GRANT).expect("a grant"), generation: 3 };
    let key = TokenKey::Consent(consent);
    let own = Binding { prefix: "consentry", provider: &provider, client_id: "client", key: &key, version };
    assert!(keyring.open(&own, Field::Refresh, &Sealed::from_bytes(data)).is_err(), "nobody sealed it");

    let Ok(sealed) = keyring.seal(&own, Field::Refresh, data) else { return };
    assert_eq!(keyring.open(&own, Field::Refresh, &sealed).expect("it is ours").as_slice(), data);
    let elsewhere = Binding { version: Version { generation: 4, ..version }, ..own };
    assert!(keyring.open(&elsewhere, Field::Refresh, &sealed).is_err());
    assert!(keyring.open(&own, Field::Access, &sealed).is_err());
    let at = data.first().map_or(0, |byte| usize::from(*byte)) % sealed.as_bytes().len();
    let mut altered = sealed.as_bytes().to_vec();
    altered[at] ^= 1;
    assert!(keyring.open(&own, Field::Refresh, &Sealed::from_bytes(altered)).is_err());
}

/// A file is a configuration or has faults, each of which can be told; no secret of the environment is among them.
pub(super) fn configuration(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("consentry.yaml");
    fs::write(&path, data).expect("written");
    let environment = |name: &str| name.starts_with("SECRET").then(|| "CANARY-0123456789-CANARY".to_owned());
    if let Err(faults) = Config::load(&path, environment) {
        let told = faults.to_string();
        assert!(!told.is_empty() && !told.contains("CANARY-0123456789"), "{told}");
    }
}
