//! Which headers pass, in each direction.
//!
//! The app must not choose the credential, so whatever could carry one is taken off its request before ours is added.
//! Some servers read `X_Api_Key` as `X-Api-Key`; a header that is an alias of one we control goes with it. What comes
//! back from the bank must not set cookies in the app, nor speak in our name, nor carry the token.

use http::header::{HeaderMap, HeaderName};

use super::hop_by_hop;

/// What a route lets through.
#[derive(Clone, Debug)]
pub struct ForwardRules {
    consent_header: HeaderName,
    forward_consent_header: bool,
    forward_cookies: bool,
    injected: Box<[HeaderName]>,
}

impl ForwardRules {
    /// Rules where the consent is named in `consent_header`, and where the headers in `injected` (`API-Key`; not
    /// `Authorization`, which goes without saying) are set by us alone.
    pub fn new(consent_header: HeaderName, injected: Vec<HeaderName>) -> Self {
        Self {
            consent_header,
            forward_consent_header: false,
            forward_cookies: false,
            injected: injected.into_boxed_slice(),
        }
    }

    /// Whether the upstream is told the consent id in the header as well.
    #[must_use]
    pub fn forward_consent_header(self, forward: bool) -> Self {
        Self { forward_consent_header: forward, ..self }
    }

    /// Whether `Cookie` and `Set-Cookie` pass.
    #[must_use]
    pub fn forward_cookies(self, forward: bool) -> Self {
        Self { forward_cookies: forward, ..self }
    }

    /// What passes of an app's headers, with room for some that we add afterwards. `nominated` are those that its
    /// `Connection` names ([`hop_by_hop::nominated`]).
    pub fn forwarded(&self, headers: &HeaderMap, nominated: &[HeaderName], room: usize) -> HeaderMap {
        let mut passing = HeaderMap::with_capacity(headers.len() + room);
        for (name, value) in headers {
            if !self.stops_request(name.as_str()) && !nominated.contains(name) {
                passing.append(name, value.clone());
            }
        }
        passing
    }

    /// Whether an app's header of this name goes to the bank, unless its `Connection` names it.
    pub fn passes(&self, name: &HeaderName) -> bool {
        !self.stops_request(name.as_str())
    }

    /// Takes off a bank's response everything that ends here. `secrets` are the values that were injected into the
    /// request; a header that repeats one goes too, and is reported.
    pub fn clean_response(&self, headers: &mut HeaderMap, secrets: &[&[u8]]) -> Echoes {
        let mut gone = hop_by_hop::nominated_leniently(headers);
        let mut echoes = Vec::new();
        for (name, value) in &*headers {
            if secrets.iter().any(|secret| holds(value.as_bytes(), secret)) {
                echoes.push(name.clone());
            } else if self.stops_response(name.as_str()) {
                gone.push(name.clone());
            }
        }
        for name in gone.iter().chain(&echoes) {
            headers.remove(name);
        }
        echoes.dedup();
        Echoes(echoes)
    }

    fn stops_request(&self, name: &str) -> bool {
        match name {
            "authorization" | "dpop" | "expect" | "forwarded" | "host" => true,
            "cookie" | "cookie2" => !self.forward_cookies,
            _ if name == self.consent_header.as_str() => !self.forward_consent_header,
            _ => {
                name.starts_with("proxy-")
                    || name.starts_with("x-forwarded-")
                    || name.starts_with("consentry-")
                    || hop_by_hop::is_hop_by_hop(name)
                    || alike(name, self.consent_header.as_str())
                    || self.injected.iter().any(|own| alike(name, own.as_str()))
                    || (name.contains('_') && self.is_alias(name))
            }
        }
    }

    /// Whether a server that takes `_` for `-` sees a header here that ends at this proxy or frames the message.
    fn is_alias(&self, name: &str) -> bool {
        let dashed = name.replace('_', "-");
        dashed == "content-length" || self.stops_request(&dashed)
    }

    fn stops_response(&self, name: &str) -> bool {
        match name {
            "set-cookie" | "set-cookie2" => !self.forward_cookies,
            "proxy-status" => true,
            _ => name.starts_with("consentry-") || hop_by_hop::is_hop_by_hop(name),
        }
    }
}

/// The headers of a response that repeated a secret; they were removed. An operator should hear of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a bank that repeats a token in a header is worth an alarm"]
pub struct Echoes(pub Vec<HeaderName>);

/// The trailers of `trailers` that `allowed` names; the others end here.
pub fn allowed_trailers(mut trailers: HeaderMap, allowed: &[HeaderName]) -> HeaderMap {
    let gone: Vec<_> = trailers.keys().filter(|name| !allowed.contains(name)).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
    trailers
}

/// Whether two names are the same to a server that takes `_` for `-`.
fn alike(one: &str, other: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.bytes().map(dashed).eq(other.bytes().map(dashed))
}

/// Whether `secret` stands anywhere in `value`. A text too short to be a secret would be found everywhere.
fn holds(value: &[u8], secret: &[u8]) -> bool {
    const SHORTEST_SECRET: usize = 8;
    let Some(first) = secret.first().filter(|_| secret.len() >= SHORTEST_SECRET) else {
        return false;
    };
    let mut rest = value;
    while rest.len() >= secret.len() {
        if rest.starts_with(secret) {
            return true;
        }
        let after = rest.get(1..).unwrap_or_default();
        let Some(next) = after.iter().position(|b| b == first) else { return false };
        rest = after.get(next..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::hop_by_hop::ConnectionError;
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const TOKEN: &[u8] = b"CANARY-4f1a2b3c";

    fn clean(rules: &ForwardRules, headers: &mut HeaderMap) -> Result<(), ConnectionError> {
        let nominated = hop_by_hop::nominated(headers)?;
        *headers = rules.forwarded(headers, &nominated, 0);
        Ok(())
    }

    fn rules() -> ForwardRules {
        ForwardRules::new(
            HeaderName::from_static("consent-id"),
            vec![HeaderName::from_static("api-key"), HeaderName::from_static("x_odd")],
        )
    }

    fn headers(names: &[&'static str]) -> HeaderMap {
        let line = |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("value"));
        names.iter().map(line).collect()
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn nothing_that_could_be_a_credential_or_a_control_header_passes() {
        for name in [
            "authorization",
            "proxy-authorization",
            "proxy-status",
            "dpop",
            "cookie",
            "x-forwarded-for",
            "x-forwarded-anything",
            "forwarded",
            "expect",
            "host",
            "consentry-debug",
            "consent-id",
            "api-key",
            "x_odd",
            "te",
            "consent_id",
            "api_key",
            "x-odd",
            "proxy_authorization",
            "x_forwarded_for",
            "x_forwarded-host",
            "consentry_debug",
            "content_length",
            "transfer_encoding",
        ] {
            let mut request = headers(&[name, "accept"]);
            assert_eq!(clean(&rules(), &mut request), Ok(()));
            assert_eq!(left(&request), ["accept"], "{name}");
        }
    }

    #[test]
    fn psu_and_signature_headers_pass_untouched() {
        let names = [
            "psu-ip-address",
            "x-fapi-customer-ip-address",
            "x-fapi-interaction-id",
            "digest",
            "signature",
            "tpp-signature-certificate",
            "x-jws-signature",
            "x-request-id",
            "traceparent",
            "content-length",
            "content-type",
            "idempotency-key",
            "if-none-match",
            "via",
            "my_own_header",
        ];
        let mut request = headers(&names);
        let before = request.clone();
        assert_eq!(clean(&rules(), &mut request), Ok(()));
        assert_eq!(request, before);
    }

    #[test]
    fn the_consent_header_and_cookies_pass_only_where_the_route_says_so() {
        let open = rules().forward_consent_header(true).forward_cookies(true);
        let mut request = headers(&["consent-id", "cookie", "consent_id"]);
        assert_eq!(clean(&open, &mut request), Ok(()));
        assert_eq!(left(&request), ["consent-id", "cookie"]);
        let mut response = headers(&["set-cookie"]);
        assert_eq!(open.clean_response(&mut response, &[TOKEN]), Echoes::default());
        assert_eq!(left(&response), ["set-cookie"]);
    }

    #[test]
    fn what_connection_names_goes_and_a_forbidden_name_stops_the_request() {
        let mut request = headers(&["x-a", "accept"]);
        request.insert("connection", HeaderValue::from_static("x-a, authorization"));
        assert_eq!(clean(&rules(), &mut request), Ok(()));
        assert_eq!(left(&request), ["accept"]);
        request.insert("connection", HeaderValue::from_static("host"));
        let refused = clean(&rules(), &mut request);
        assert_eq!(refused, Err(ConnectionError::Protected("host")));
    }

    #[test]
    fn a_response_loses_cookies_foreign_proxy_status_and_hop_by_hop_headers() {
        let mut response =
            headers(&["set-cookie", "proxy-status", "consentry-answer", "keep-alive", "content-type", "x-trace-id"]);
        assert_eq!(rules().clean_response(&mut response, &[TOKEN]), Echoes::default());
        assert_eq!(left(&response), ["content-type", "x-trace-id"]);
    }

    #[test]
    fn a_header_that_repeats_the_token_is_removed_and_reported() {
        let mut response = headers(&["content-type"]);
        for value in ["a", "Bearer CANARY-4f1a2b3c; x", "CCANARY-4f1a2b3c"] {
            response.append("x-echo", HeaderValue::from_static(value));
        }
        response.append("x-near", HeaderValue::from_static("CANARY-4f1a2b3"));
        let echoes = rules().clean_response(&mut response, &[b"other-secret", TOKEN]);
        assert_eq!(echoes, Echoes(vec![HeaderName::from_static("x-echo")]));
        assert_eq!(left(&response), ["content-type", "x-near"]);
    }

    #[test]
    fn trailers_pass_by_name() {
        let trailers = headers(&["grpc-status", "authorization", "digest"]);
        let kept = allowed_trailers(trailers, &[HeaderName::from_static("digest")]);
        assert_eq!(left(&kept), ["digest"]);
    }

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_stands(
            before in "[ab]{0,12}", secret in "[ab]{8,12}", after in "[ab]{0,12}",
        ) {
            let value = format!("{before}{secret}{after}");
            prop_assert!(holds(value.as_bytes(), secret.as_bytes()));
        }

        #[test]
        fn a_secret_is_found_nowhere_else(value in "[ab]{0,30}", secret in "[ab]{8,10}") {
            prop_assert_eq!(holds(value.as_bytes(), secret.as_bytes()), value.contains(&secret));
        }
    }
}
