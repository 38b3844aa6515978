//! Where a customer is sent to consent: the authorization request (RFC 6749 §4.1.1), with PKCE (RFC 7636).
//!
//! Pure: a URL is built from what is known of the bank and of the attempt, and nothing is asked of anybody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::request::field;
use super::settings::{Authorization, Pkce};
use crate::words::ids::random;
use crate::words::secrets::{CodeVerifier, RequestUri};
use crate::words::token_set::Scope;

/// What one attempt adds to a bank's authorization endpoint.
#[derive(Debug)]
pub struct AuthorizeRequest<'a> {
    /// Where the bank sends the browser back to, exactly as it was registered there.
    pub redirect_uri: &'a str,
    /// What is asked for; `None` asks for nothing in particular.
    pub scope: Option<&'a Scope>,
    /// Comes back with the answer (RFC 6749 §10.12).
    pub state: &'a str,
    /// What proves at the exchange that whoever asked is the same; left out where the bank takes no PKCE.
    pub verifier: &'a CodeVerifier,
}

/// Parameters that are ours to set, and that no configuration may.
pub const OUR_PARAMETERS: [&str; 8] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "request_uri",
];

impl Authorization {
    /// The URL that the customer's browser is sent to. A query of the endpoint's own is kept (RFC 6749 §3.1).
    pub fn url(&self, request: &AuthorizeRequest<'_>) -> String {
        let mut query = String::with_capacity(512);
        field("response_type", "code", &mut query);
        field("client_id", &self.client_id, &mut query);
        self.ask(request, &mut query);
        self.address(&query)
    }

    /// What is pushed to the bank before the browser is sent there (RFC 9126 §2.1): the same but for our name, which goes with
    /// our credentials.
    pub fn form(&self, request: &AuthorizeRequest<'_>) -> Zeroizing<String> {
        let mut form = Zeroizing::new(String::with_capacity(512));
        field("response_type", "code", &mut form);
        self.ask(request, &mut form);
        form
    }

    /// The URL that the browser is sent to where the bank has the request already (RFC 9126 §4).
    pub fn url_of_pushed(&self, request_uri: &RequestUri) -> String {
        let mut query = String::with_capacity(128);
        field("client_id", &self.client_id, &mut query);
        field("request_uri", request_uri.expose(), &mut query);
        self.address(&query)
    }

    fn ask(&self, request: &AuthorizeRequest<'_>, into: &mut String) {
        field("redirect_uri", request.redirect_uri, into);
        if let Some(scope) = request.scope {
            field("scope", scope.as_str(), into);
        }
        field("state", request.state, into);
        match self.pkce {
            Pkce::Required | Pkce::Allowed => {
                field("code_challenge", &challenge(request.verifier), into);
                field("code_challenge_method", "S256", into);
            }
            Pkce::Never => {}
        }
        for (name, value) in &self.parameters {
            field(name, value, into);
        }
    }

    fn address(&self, query: &str) -> String {
        let endpoint = self.endpoint.to_string();
        let joint = if self.endpoint.query().is_some() { '&' } else { '?' };
        format!("{endpoint}{joint}{query}")
    }
}

/// A new verifier: 43 characters of the alphabet that RFC 7636 §4.1 allows, from 32 random bytes.
pub fn new_verifier() -> CodeVerifier {
    CodeVerifier::new(URL_SAFE_NO_PAD.encode([random(), random()].as_flattened()))
}

/// `BASE64URL(SHA256(ASCII(verifier)))` (RFC 7636 §4.2).
fn challenge(verifier: &CodeVerifier) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pair of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn url(authorization: &Authorization, redirect_uri: &str, scope: &str, state: &str) -> String {
        let (scope, verifier) = (Scope::parse(scope).expect("a scope"), CodeVerifier::new(VERIFIER));
        authorization.url(&AuthorizeRequest { redirect_uri, scope: Some(&scope), state, verifier: &verifier })
    }

    /// The parameters of a URL, in alphabetical order, still encoded.
    fn parameters(url: &str) -> Vec<&str> {
        let mut found: Vec<_> = url.split_once('?').expect("a query").1.split('&').collect();
        found.sort_unstable();
        found
    }

    fn bank(endpoint: &'static str, client_id: &str, parameters: &[(&str, &str)], pkce: Pkce) -> Authorization {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let endpoint = http::Uri::from_static(endpoint);
        Authorization { endpoint, client_id: client_id.to_owned(), parameters, pkce, issuer: None }
    }

    #[test]
    fn abn_amro_gets_what_its_documentation_shows() {
        let abn = bank(
            "https://auth-sandbox.connect.abnamro.com/as/authorization.oauth2",
            "TPP_test",
            &[("bank", "NLAA01"), ("flow", "code")],
            Pkce::Never,
        );
        let scope = "psd2:account:balance:read psd2:account:transaction:read psd2:account:details:read";
        let built = url(&abn, "https://localhost/auth", scope, "SilverAdministration-123");
        assert!(built.starts_with("https://auth-sandbox.connect.abnamro.com/as/authorization.oauth2?"), "{built}");
        assert_eq!(
            parameters(&built),
            [
                "bank=NLAA01",
                "client_id=TPP_test",
                "flow=code",
                "redirect_uri=https%3A%2F%2Flocalhost%2Fauth",
                "response_type=code",
                "scope=psd2%3Aaccount%3Abalance%3Aread+psd2%3Aaccount%3Atransaction%3Aread+psd2%3Aaccount%3Adetails%3Aread",
                "state=SilverAdministration-123",
            ]
        );
    }

    #[test]
    fn norsk_gjeld_gets_what_its_documentation_shows() {
        let nogi = bank("https://access-preprod.norskgjeld.no/oauth2/auth", "your_client_id_here", &[], Pkce::Never);
        let built = url(
            &nogi,
            "https://api-eksempelbank.no/v1/callback",
            "debt.unsecured.presentation",
            "thisShouldBeARandomValue",
        );
        assert_eq!(
            parameters(&built),
            [
                "client_id=your_client_id_here",
                "redirect_uri=https%3A%2F%2Fapi-eksempelbank.no%2Fv1%2Fcallback",
                "response_type=code",
                "scope=debt.unsecured.presentation",
                "state=thisShouldBeARandomValue",
            ]
        );
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        for pkce in [Pkce::Allowed, Pkce::Required] {
            let built =
                url(&bank("https://bank.example/authorize", "us", &[], pkce), "https://us.example/cb", "a", "s");
            let found = parameters(&built);
            assert!(found.contains(&"code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"), "{built}");
            assert!(found.contains(&"code_challenge_method=S256"), "{built}");
            assert!(!built.contains(VERIFIER), "the verifier itself never leaves");
        }
    }

    #[test]
    fn a_query_of_the_endpoints_own_is_kept_and_nothing_can_add_a_parameter() {
        let odd = bank("https://bank.example/authorize?tenant=a", "us&state=x", &[("p&q", "1&state=y")], Pkce::Never);
        let built = url(&odd, "https://us.example/cb?a=b#c", "a", "s&scope=z");
        assert!(built.starts_with("https://bank.example/authorize?tenant=a&response_type=code&"), "{built}");
        assert!(built.contains("client_id=us%26state%3Dx") && built.contains("p%26q=1%26state%3Dy"), "{built}");
        assert!(built.contains("state=s%26scope%3Dz") && !built.contains('#'), "{built}");
    }

    #[test]
    fn what_is_pushed_is_all_of_it_but_our_name_and_the_browser_carries_that_and_the_bank_s_name_for_it() {
        let bank = bank("https://bank.example/authorize?tenant=a", "us&x", &[("prompt", "login")], Pkce::Required);
        let (scope, verifier) = (Scope::parse("a b").expect("a scope"), CodeVerifier::new(VERIFIER));
        let request = AuthorizeRequest {
            redirect_uri: "https://us.example/cb",
            scope: Some(&scope),
            state: "s",
            verifier: &verifier,
        };
        let pushed: Vec<_> = bank.form(&request).split('&').map(str::to_owned).collect();
        let named = bank.url(&request);
        let mut named: Vec<_> = named.split_once("tenant=a&").expect("a query").1.split('&').collect();
        named.retain(|part| *part != "client_id=us%26x");
        assert_eq!(pushed, named);
        let name = RequestUri::new("urn:ietf:params:oauth:request_uri:6&state=t");
        assert_eq!(
            bank.url_of_pushed(&name),
            "https://bank.example/authorize?tenant=a&client_id=us%26x\
             &request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A6%26state%3Dt"
        );
    }

    #[test]
    fn verifiers_are_long_enough_and_never_alike() {
        let (one, other) = (new_verifier(), new_verifier());
        assert_ne!(one.expose(), other.expose());
        for verifier in [one, other] {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
            assert!((43..=128).contains(&verifier.expose().len()) && verifier.expose().bytes().all(fits));
        }
    }
}
