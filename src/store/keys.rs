//! How a record is named: in the store, in the channel of changes, and in what a seal is bound to.
//!
//! One place, because three things must agree on it. The braces are literal: they are the hash tag of a Redis Cluster
//! (the part of a key that decides its slot), so that whatever is appended after them lives beside the record.

use std::sync::Arc;

use crate::words::ids::{BankNameDigest, ClientKey, ConsentId, ProviderId, StateDigest, TokenKey, Version};

/// The names under one key prefix. Two installations with different prefixes never meet.
#[derive(Clone, Debug)]
pub struct KeyLayout {
    prefix: Arc<str>,
}

impl KeyLayout {
    /// The names under `prefix`, which the configuration has checked.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: Arc::from(prefix) }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the record lives: `<prefix>:c:{<consent id>}` or `<prefix>:k:{<provider>/<digest>}`.
    pub fn record(&self, key: &TokenKey) -> String {
        let prefix = &self.prefix;
        match key {
            TokenKey::Consent(id) => format!("{prefix}:c:{{{}}}", id.as_str()),
            TokenKey::Client(client) => format!("{prefix}:k:{{{}/{}}}", client.provider, client.digest),
        }
    }

    /// What the records of consents are called, as a pattern of SCAN. What lives beside a record ends otherwise.
    pub fn consents(&self) -> String {
        // The characters of a prefix mean nothing in a pattern.
        format!("{}:c:{{*}}", self.prefix)
    }

    /// Reads what [`Self::record`] makes of a consent; `None` for any other key.
    pub fn consent_of(&self, key: &[u8]) -> Option<ConsentId> {
        let key = std::str::from_utf8(key).ok()?;
        let id = key.strip_prefix(&*self.prefix)?.strip_prefix(":c:{")?.strip_suffix('}')?;
        ConsentId::parse(id).ok()
    }

    /// Where the history of a record lives: beside it, in the same slot.
    pub fn history(&self, key: &TokenKey) -> String {
        format!("{}:ev", self.record(key))
    }

    /// Where the calls of a consent without its customer are counted: beside the record, in the same slot.
    pub fn quota(&self, consent: &ConsentId) -> String {
        format!("{}:c:{{{}}}:q", self.prefix, consent.as_str())
    }

    /// Where a provider's record lives: `<prefix>:p:{<provider>}`.
    pub fn provider(&self, provider: &ProviderId) -> String {
        format!("{}:p:{{{provider}}}", self.prefix)
    }

    /// Where an attempt lives: `<prefix>:a:{<digest of its state>}`.
    pub fn attempt(&self, state: &StateDigest) -> String {
        format!("{}:a:{{{state}}}", self.prefix)
    }

    /// Where what is known of a provider's feed lives: `<prefix>:f:{<provider>}`.
    pub fn feed(&self, provider: &ProviderId) -> String {
        format!("{}:f:{{{provider}}}", self.prefix)
    }

    /// Where a bank's name for consents lives: `<prefix>:n:{<provider>/<digest of the name>}`.
    pub fn name(&self, provider: &ProviderId, name: &BankNameDigest) -> String {
        format!("{}:n:{{{provider}/{name}}}", self.prefix)
    }

    /// What the keys of each kind look like, and one that no record has: for trying out what may be done to them.
    pub fn nobodys(&self) -> [(String, String); 6] {
        let prefix = &self.prefix;
        let kinds = [
            (format!("{prefix}:c:*"), "c:{}"),
            (format!("{prefix}:k:*"), "k:{nobody/-}"),
            (format!("{prefix}:p:*"), "p:{}"),
            (format!("{prefix}:a:*"), "a:{}"),
            (format!("{prefix}:f:*"), "f:{}"),
            (format!("{prefix}:n:*"), "n:{}"),
        ];
        kinds.map(|(pattern, name)| (pattern, format!("{prefix}:{name}")))
    }

    /// What the keys of histories look like, and one that no consent has.
    pub fn nobodys_history(&self) -> (String, String) {
        let prefix = &self.prefix;
        (format!("{prefix}:c:*:ev"), format!("{prefix}:c:{{}}:ev"))
    }

    /// Where processes say that they live: `<prefix>:roster`.
    pub fn roster(&self) -> String {
        format!("{}:roster", self.prefix)
    }

    /// The channel on which every replaced record is told.
    pub fn changes(&self) -> String {
        format!("{}:changes", self.prefix)
    }
}

/// The short name of a record, the same under every prefix: `c:<consent id>` or `k:<provider>/<digest>`.
pub fn short_name(key: &TokenKey) -> String {
    match key {
        TokenKey::Consent(id) => format!("c:{}", id.as_str()),
        TokenKey::Client(client) => format!("k:{}/{}", client.provider, client.digest),
    }
}

/// Reads what [`short_name`] wrote; `None` for anything else.
pub fn parse_short_name(name: &str) -> Option<TokenKey> {
    let (kind, rest) = name.split_once(':')?;
    match kind {
        "c" => ConsentId::parse(rest).ok().map(TokenKey::Consent),
        "k" => {
            let (provider, digest) = rest.split_once('/')?;
            let hexadecimal = digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            let provider = ProviderId::parse(provider)?;
            hexadecimal.then(|| TokenKey::Client(ClientKey { provider, digest: Arc::from(digest) }))
        }
        _ => None,
    }
}

/// The short name of a provider's record: `p:<provider>`.
pub fn provider_name(provider: &ProviderId) -> String {
    format!("p:{provider}")
}

/// The short name of an attempt: `a:<digest of its state>`.
pub fn attempt_name(state: &StateDigest) -> String {
    format!("a:{state}")
}

/// The short name of a consent's quota: `q:<consent id>`.
pub fn quota_name(consent: &ConsentId) -> String {
    format!("q:{}", consent.as_str())
}

/// The short name of a feed's record: `f:<provider>`.
pub fn feed_name(provider: &ProviderId) -> String {
    format!("f:{provider}")
}

/// The short name of a bank's name for consents: `n:<provider>/<digest of the name>`.
pub fn bank_name(provider: &ProviderId, name: &BankNameDigest) -> String {
    format!("n:{provider}/{name}")
}

/// The kind of a record, for error texts that must not name the consent.
pub const fn kind(key: &TokenKey) -> &'static str {
    match key {
        TokenKey::Consent(_) => "consent",
        TokenKey::Client(_) => "client token",
    }
}

/// A change as it is published: `<short name> <grant>.<generation>`.
pub fn parse_change(message: &str) -> Option<(TokenKey, Version)> {
    let (name, version) = message.rsplit_once(' ')?;
    Some((parse_short_name(name)?, Version::parse(version)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ids::GrantId;

    fn consent() -> TokenKey {
        TokenKey::Consent(ConsentId::parse("a:b-1").unwrap())
    }

    fn client() -> TokenKey {
        TokenKey::Client(ClientKey::new(ProviderId::parse("norsk-gjeld").unwrap(), Some("audience"), None))
    }

    #[test]
    fn record_names_carry_literal_braces() {
        let keys = KeyLayout::new("consentry");
        assert_eq!(keys.record(&consent()), "consentry:c:{a:b-1}");
        assert_eq!(keys.history(&consent()), "consentry:c:{a:b-1}:ev");
        assert_eq!(keys.quota(&ConsentId::parse("a:b-1").unwrap()), "consentry:c:{a:b-1}:q");
        assert!(keys.record(&client()).starts_with("consentry:k:{norsk-gjeld/"));
        assert!(keys.record(&client()).ends_with('}'));
        assert_eq!(keys.changes(), "consentry:changes");
    }

    #[test]
    fn a_consent_is_told_by_the_key_of_its_record_alone() {
        let keys = KeyLayout::new("consentry");
        let TokenKey::Consent(id) = consent() else { panic!("a consent") };
        assert_eq!(keys.consent_of(keys.record(&consent()).as_bytes()), Some(id));
        for other in [keys.history(&consent()), keys.record(&client()), keys.changes(), "consentry:c:{a b}".to_owned()]
        {
            assert_eq!(keys.consent_of(other.as_bytes()), None, "{other}");
        }
        assert_eq!(KeyLayout::new("other").consent_of(keys.record(&consent()).as_bytes()), None);
    }

    #[test]
    fn nobodys_keys_look_like_records_and_are_none() {
        for (pattern, key) in KeyLayout::new("consentry").nobodys() {
            assert!(key.starts_with(pattern.trim_end_matches('*')), "{key}");
            let name = key.trim_start_matches("consentry:").replace(['{', '}'], "");
            assert_eq!(parse_short_name(&name), None, "{key}");
        }
    }

    #[test]
    fn a_published_change_reads_back() {
        let version = Version { grant: GrantId::random(), generation: 7 };
        for key in [consent(), client()] {
            let message = format!("{} {version}", short_name(&key));
            assert_eq!(parse_change(&message), Some((key, version)));
        }
    }

    #[test]
    fn a_foreign_message_is_no_change() {
        for bad in ["", "c:x", "x:y 00.1", "c:{a} 00.1", "k:bank 00.1", "c:a xyz"] {
            assert_eq!(parse_change(bad), None, "{bad:?}");
        }
    }
}
