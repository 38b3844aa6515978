//! Header names that a configuration may use.

use http::HeaderName;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

use crate::config::fault::At;

/// A header of the app's or the operator's own: not one that HTTP or this proxy gives a meaning of their own.
pub(super) fn name(text: &str, at: &At<'_>) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        at.fault("it is not a header name");
        return None;
    };
    let spoken_for = [
        AUTHORIZATION,
        CONNECTION,
        CONTENT_LENGTH,
        COOKIE,
        EXPECT,
        FORWARDED,
        HOST,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let also_spoken_for = ["keep-alive", "proxy-connection", "proxy-authenticate", "via", "set-cookie"];
    if name == AUTHORIZATION {
        at.fault("Authorization carries the token");
        return None;
    }
    if spoken_for.contains(&name)
        || also_spoken_for.contains(&name.as_str())
        || name.as_str().starts_with("x-forwarded-")
    {
        at.fault(format_args!("the header {name} has a meaning of its own on the way through a proxy"));
        return None;
    }
    Some(name)
}
