//! The metadata document of the authorization server (OpenID Connect Discovery 1.0 §4): member for member the real one,
//! with the sandbox's own addresses.

use http::StatusCode;
use serde_json::json;

use super::super::answers::{Answer, json};
use super::super::endpoints::NorskGjeldEndpoints;

/// `/.well-known/openid-configuration`.
pub(super) fn document(endpoints: &NorskGjeldEndpoints) -> Answer {
    let access = &endpoints.access;
    json(
        StatusCode::OK,
        &json!({
            "issuer": format!("{access}/"),
            "authorization_endpoint": endpoints.authorization_endpoint,
            "token_endpoint": format!("{access}/oauth2/token"),
            "jwks_uri": format!("{access}/.well-known/jwks.json"),
            "subject_types_supported": ["pairwise"],
            "response_types_supported": ["code"],
            "claims_supported": ["sub"],
            "grant_types_supported": ["authorization_code", "client_credentials"],
            "response_modes_supported": ["query", "fragment"],
            "userinfo_endpoint": format!("{access}/userinfo"),
            "scopes_supported": ["openid"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "userinfo_signing_alg_values_supported": ["none", "RS256"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "request_parameter_supported": true,
            "request_uri_parameter_supported": true,
            "require_request_uri_registration": true,
            "claims_parameter_supported": false,
            "revocation_endpoint": format!("{access}/oauth2/revoke"),
            "end_session_endpoint": format!("{access}/oauth2/sessions/logout"),
            "request_object_signing_alg_values_supported": ["RS256", "none"],
        }),
    )
}
