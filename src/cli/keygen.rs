//! `consentry keygen`: a new seal key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::out;
use crate::words::ids::random;

pub(super) fn run(json: bool) {
    let key = new_key();
    if json {
        out::say_json(&serde_json::json!({ "key": key.as_str() }));
    } else {
        out::say(&key);
    }
}

/// 32 random bytes in base64, as `store.seal.keys` wants them.
pub(super) fn new_key() -> Zeroizing<String> {
    let mut key = Zeroizing::new([0; 32]);
    key[..16].copy_from_slice(&random());
    key[16..].copy_from_slice(&random());
    Zeroizing::new(STANDARD.encode(*key))
}
