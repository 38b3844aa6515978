//! The token request on the wire: a form and, for some clients, an `Authorization` header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Request, Uri};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::settings::{ClientAuth, Registration};
use super::{NotSent, RevocationRequest, TokenRequest, assertion};
use crate::words::clock::WallTime;
use crate::words::signing::NotSigned;

/// Builds the request in origin form, for a connection of its own.
pub(super) fn build(
    registration: &Registration,
    request: &TokenRequest<'_>,
    now: WallTime,
) -> Result<Request<Full<Bytes>>, NotSent> {
    post(registration, &registration.token_endpoint, token_form(request), now)
}

/// The same for a revocation (RFC 7009 §2.1).
pub(super) fn build_revocation(
    registration: &Registration,
    request: &RevocationRequest<'_>,
    now: WallTime,
) -> Result<Request<Full<Bytes>>, NotSent> {
    let mut form = Zeroizing::new(String::with_capacity(512));
    let (token, kind) = match request {
        RevocationRequest::Refresh(token) => (token.expose(), "refresh_token"),
        RevocationRequest::Access(token) => (token.expose(), "access_token"),
    };
    field("token", token, &mut form);
    field("token_type_hint", kind, &mut form);
    let endpoint = registration.revocation_endpoint.as_ref();
    let none = || NotSent::Request("there is no revocation endpoint".to_owned());
    post(registration, endpoint.ok_or_else(none)?, form, now)
}

/// An authorization request that is pushed (RFC 9126 §2.1). Our name belongs into it, however we prove ourselves.
pub(super) fn build_push(
    registration: &Registration,
    form: &str,
    now: WallTime,
) -> Result<Request<Full<Bytes>>, NotSent> {
    let mut form = Zeroizing::new(form.to_owned());
    match &registration.client_auth {
        ClientAuth::SecretBasic(_) => field("client_id", &registration.client_id, &mut form),
        // It stands beside what proves us.
        ClientAuth::TlsClientAuth | ClientAuth::SecretPost(_) | ClientAuth::PrivateKeyJwt(_) | ClientAuth::None => {}
    }
    let endpoint = registration.pushed_authorization_request_endpoint.as_ref();
    let none = || NotSent::Request("there is no endpoint for pushed authorization requests".to_owned());
    post(registration, endpoint.ok_or_else(none)?, form, now)
}

/// A form for one of the authorization server's endpoints, with our credentials.
fn post(
    registration: &Registration,
    endpoint: &Uri,
    mut form: Zeroizing<String>,
    now: WallTime,
) -> Result<Request<Full<Bytes>>, NotSent> {
    let impossible = |what: &str| NotSent::Request(what.to_owned());
    let path = endpoint.path_and_query().map_or("/", |path| path.as_str());
    let target: Uri = path.parse().map_err(|_| impossible("the endpoint's path is not a request target"))?;
    let authority = endpoint.authority().ok_or_else(|| impossible("the endpoint has no host"))?;
    let mut built = Request::post(target)
        .header(HOST, authority.as_str())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(CACHE_CONTROL, "no-cache")
        // The connection serves one request: an answer cannot be another request's, and its end is the answer's end.
        .header(CONNECTION, "close");
    // Credentials go into the header or into the form, never both (RFC 6749 §2.3).
    match &registration.client_auth {
        ClientAuth::SecretBasic(secret) => {
            // RFC 6749 §2.3.1: both halves are form-encoded before base64, unlike ordinary Basic authentication.
            let mut pair = Zeroizing::new(String::new());
            encode(&registration.client_id, &mut pair);
            pair.push(':');
            encode(secret.current().expose(), &mut pair);
            let line = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            let mut value = HeaderValue::from_str(&line).map_err(|_| impossible("the client's credentials"))?;
            value.set_sensitive(true);
            built = built.header(AUTHORIZATION, value);
        }
        ClientAuth::TlsClientAuth | ClientAuth::None => field("client_id", &registration.client_id, &mut form),
        ClientAuth::PrivateKeyJwt(asserting) => {
            let assertion = asserting.assert(&registration.client_id, now);
            let assertion = assertion.map_err(|NotSigned| impossible("the client's key does not sign"))?;
            field("client_id", &registration.client_id, &mut form);
            field("client_assertion_type", assertion::TYPE, &mut form);
            field("client_assertion", assertion.expose(), &mut form);
        }
        ClientAuth::SecretPost(secret) => {
            field("client_id", &registration.client_id, &mut form);
            field("client_secret", secret.current().expose(), &mut form);
        }
    }
    let body = Full::new(Bytes::copy_from_slice(form.as_bytes()));
    built.body(body).map_err(|_| impossible("a header of the request"))
}

fn token_form(request: &TokenRequest<'_>) -> Zeroizing<String> {
    let mut form = Zeroizing::new(String::with_capacity(512));
    match request {
        TokenRequest::Refresh { refresh, scope } => {
            field("grant_type", "refresh_token", &mut form);
            field("refresh_token", refresh.expose(), &mut form);
            if let Some(scope) = scope {
                field("scope", scope.as_str(), &mut form);
            }
        }
        TokenRequest::AuthorizationCode { code, redirect_uri, verifier } => {
            field("grant_type", "authorization_code", &mut form);
            field("code", code.expose(), &mut form);
            field("redirect_uri", redirect_uri, &mut form);
            if let Some(verifier) = verifier {
                field("code_verifier", verifier.expose(), &mut form);
            }
        }
        TokenRequest::ClientCredentials { audience, scope } => {
            field("grant_type", "client_credentials", &mut form);
            if let Some(audience) = audience {
                field("audience", audience, &mut form);
            }
            if let Some(scope) = scope {
                field("scope", scope.as_str(), &mut form);
            }
        }
    }
    form
}

/// Adds a field to a form, or a parameter to a query.
pub(super) fn field(name: &str, value: &str, form: &mut String) {
    if !form.is_empty() {
        form.push('&');
    }
    encode(name, form);
    form.push('=');
    encode(value, form);
}

/// `application/x-www-form-urlencoded` (RFC 6749 appendix B).
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => into.push(char::from(byte)),
            b' ' => into.push('+'),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                into.push('%');
                into.push(char::from(DIGITS[usize::from(byte >> 4)]));
                into.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::Roots;
    use crate::oauth::assertion::Asserting;
    use crate::words::ids::ProviderId;
    use crate::words::secrets::{AccessToken, AuthorizationCode, ClientSecret, CodeVerifier, RefreshToken, Renewable};
    use crate::words::signing::SigningKey;
    use crate::words::signing::tests::keys;
    use crate::words::token_set::Scope;
    use http_body_util::BodyExt;

    const NOW: WallTime = WallTime::from_millis(1_795_000_000_000);

    fn registration(client_auth: ClientAuth) -> Registration {
        Registration {
            provider: ProviderId::parse("bank").expect("valid"),
            token_endpoint: Uri::from_static("https://bank.example:8443/as/token.oauth2"),
            revocation_endpoint: Some(Uri::from_static("https://bank.example:8443/as/revoke_token.oauth2")),
            pushed_authorization_request_endpoint: Some(Uri::from_static("https://bank.example:8443/as/par.oauth2")),
            client_id: "TPP test".to_owned(),
            client_auth,
            identity: None,
            roots: Roots::System,
            reachable: crate::net::names::Reachable::Everything,
            connect_timeout: Registration::CONNECT_TIMEOUT,
        }
    }

    async fn body(request: Request<Full<Bytes>>) -> String {
        let bytes = request.into_body().collect().await.expect("in memory").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("ASCII")
    }

    #[tokio::test]
    async fn abn_amro_gets_the_client_id_in_the_form_and_no_secret() {
        let refresh = RefreshToken::new("old/token");
        let scope = Scope::parse("psd2:account:details:read psd2:account:balance:read").expect("valid");
        let request = TokenRequest::Refresh { refresh: &refresh, scope: Some(&scope) };
        let request = build(&registration(ClientAuth::TlsClientAuth), &request, NOW).expect("builds");
        assert_eq!(request.uri(), "/as/token.oauth2");
        assert_eq!(request.headers()[HOST], "bank.example:8443");
        assert!(!request.headers().contains_key(AUTHORIZATION));
        assert_eq!(
            body(request).await,
            "grant_type=refresh_token&refresh_token=old%2Ftoken\
             &scope=psd2%3Aaccount%3Adetails%3Aread+psd2%3Aaccount%3Abalance%3Aread&client_id=TPP+test"
        );
    }

    #[tokio::test]
    async fn norsk_gjeld_gets_form_encoded_halves_in_a_sensitive_basic_header() {
        let request = TokenRequest::ClientCredentials { audience: Some("https://api/v1/debt"), scope: None };
        let auth = ClientAuth::SecretBasic(Renewable::new(ClientSecret::new("pä:ss")));
        let request = build(&registration(auth), &request, NOW).expect("builds");
        let header = &request.headers()[AUTHORIZATION];
        assert!(header.is_sensitive());
        assert_eq!(header.as_bytes(), format!("Basic {}", STANDARD.encode("TPP+test:p%C3%A4%3Ass")).as_bytes());
        assert_eq!(body(request).await, "grant_type=client_credentials&audience=https%3A%2F%2Fapi%2Fv1%2Fdebt");
    }

    #[tokio::test]
    async fn a_code_goes_with_its_redirect_uri_and_verifier() {
        let code = AuthorizationCode::new("9C6UrsGZ0Z3XJymRAOAgl7hKPLlWKUo9GBfMQQEs");
        let verifier = CodeVerifier::new("a~b");
        let exchange = |verifier| TokenRequest::AuthorizationCode {
            code: &code,
            redirect_uri: "https://localhost/auth",
            verifier,
        };
        let sent = build(&registration(ClientAuth::TlsClientAuth), &exchange(None), NOW).expect("builds");
        assert_eq!(
            body(sent).await,
            "grant_type=authorization_code&code=9C6UrsGZ0Z3XJymRAOAgl7hKPLlWKUo9GBfMQQEs\
             &redirect_uri=https%3A%2F%2Flocalhost%2Fauth&client_id=TPP+test"
        );
        let auth = ClientAuth::SecretBasic(Renewable::new(ClientSecret::new("s")));
        let sent = build(&registration(auth), &exchange(Some(&verifier)), NOW).expect("builds");
        assert!(sent.headers()[AUTHORIZATION].is_sensitive());
        assert!(body(sent).await.ends_with("&redirect_uri=https%3A%2F%2Flocalhost%2Fauth&code_verifier=a%7Eb"));
    }

    #[tokio::test]
    async fn a_posted_secret_is_in_the_form_alone() {
        let request = TokenRequest::ClientCredentials { audience: None, scope: None };
        let auth = ClientAuth::SecretPost(Renewable::new(ClientSecret::new("s&t")));
        let request = build(&registration(auth), &request, NOW).expect("builds");
        assert!(!request.headers().contains_key(AUTHORIZATION));
        assert_eq!(body(request).await, "grant_type=client_credentials&client_id=TPP+test&client_secret=s%26t");
    }

    #[tokio::test]
    async fn a_revocation_names_the_token_and_its_kind_and_proves_the_client_as_a_token_request_does() {
        let (refresh, access) = (RefreshToken::new("r/t"), AccessToken::new("a t"));
        let sent =
            build_revocation(&registration(ClientAuth::TlsClientAuth), &RevocationRequest::Refresh(&refresh), NOW);
        let sent = sent.expect("builds");
        assert_eq!(sent.uri(), "/as/revoke_token.oauth2");
        assert_eq!(body(sent).await, "token=r%2Ft&token_type_hint=refresh_token&client_id=TPP+test");
        let auth = ClientAuth::SecretBasic(Renewable::new(ClientSecret::new("s")));
        let sent = build_revocation(&registration(auth), &RevocationRequest::Access(&access), NOW).expect("builds");
        assert!(sent.headers()[AUTHORIZATION].is_sensitive());
        assert_eq!(body(sent).await, "token=a+t&token_type_hint=access_token");
    }

    #[tokio::test]
    async fn a_pushed_request_names_our_client_once_however_it_proves_itself() {
        let [_, p256] = keys();
        let key = Renewable::new(SigningKey::from_pem(p256.as_bytes()).expect("a key"));
        let secret = || Renewable::new(ClientSecret::new("s"));
        let audience = "https://bank.example:8443".to_owned();
        for auth in [
            ClientAuth::TlsClientAuth,
            ClientAuth::SecretBasic(secret()),
            ClientAuth::SecretPost(secret()),
            ClientAuth::PrivateKeyJwt(Asserting { key, key_id: None, audience, life: Asserting::LIFE }),
            ClientAuth::None,
        ] {
            let what = format!("{auth:?}");
            let sent = build_push(&registration(auth), "response_type=code&state=s", NOW).expect("builds");
            assert_eq!(sent.uri(), "/as/par.oauth2");
            assert_eq!(sent.headers().contains_key(AUTHORIZATION), what.starts_with("SecretBasic"), "{what}");
            let form = body(sent).await;
            assert!(form.starts_with("response_type=code&state=s&client_id=TPP+test"), "{form}");
            assert_eq!(form.matches("client_id=").count(), 1, "{form}");
        }
    }

    #[tokio::test]
    async fn an_assertion_goes_into_the_form_beside_the_client_s_name_and_no_secret_with_it() {
        let [_, p256] = keys();
        let key = Renewable::new(SigningKey::from_pem(p256.as_bytes()).expect("a key"));
        let audience = "https://bank.example:8443/as/token.oauth2".to_owned();
        let auth = ClientAuth::PrivateKeyJwt(Asserting { key, key_id: None, audience, life: Asserting::LIFE });
        let request = TokenRequest::ClientCredentials { audience: None, scope: None };
        let request = build(&registration(auth), &request, NOW).expect("builds");
        assert!(!request.headers().contains_key(AUTHORIZATION));
        let form = body(request).await;
        let expected = "grant_type=client_credentials&client_id=TPP+test&client_assertion_type=\
                        urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=ey";
        assert!(form.starts_with(expected), "{form}");
        assert_eq!(form.rsplit_once('=').expect("an assertion").1.split('.').count(), 3);
    }
}
