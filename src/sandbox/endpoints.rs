//! Where the imitated banks answer, in the form in which `endpoints.json` tells it.

use std::net::SocketAddr;

use serde::Serialize;

use super::settings::SandboxSettings;

/// The addresses of the six listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// ABN AMRO's token endpoint, with mutual TLS.
    pub abn_token: SocketAddr,
    /// ABN AMRO's APIs.
    pub abn_api: SocketAddr,
    /// Norsk Gjeldsinformasjon's authorization server.
    pub nogi_access: SocketAddr,
    /// Norsk Gjeldsinformasjon's APIs.
    pub nogi_api: SocketAddr,
    /// The control API.
    pub control: SocketAddr,
    /// The pages that a customer's browser sees.
    pub pages: SocketAddr,
}

/// Everything that a configuration needs to know of the sandbox. The credentials in it are made up and guard nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoints {
    /// The imitated ABN AMRO.
    pub abn_amro: AbnAmroEndpoints,
    /// The imitated Norsk Gjeldsinformasjon.
    pub norsk_gjeld: NorskGjeldEndpoints,
    /// Base URL of the control API.
    pub control: String,
}

/// The imitated ABN AMRO.
#[derive(Clone, Debug, Serialize)]
pub struct AbnAmroEndpoints {
    /// URL that a customer's browser is sent to.
    pub authorization_endpoint: String,
    /// URL of the token endpoint.
    pub token_endpoint: String,
    /// Base URL of the APIs; their paths begin with `/v1`.
    pub api: String,
    /// The client that the certificate `tpp.crt` belongs to.
    pub client_id: String,
    /// The `API-Key` of the APIs.
    pub api_key: String,
}

/// The imitated Norsk Gjeldsinformasjon.
#[derive(Clone, Debug, Serialize)]
pub struct NorskGjeldEndpoints {
    /// Base URL of the authorization server, which is its issuer without the last slash.
    pub access: String,
    /// URL that a person's browser is sent to.
    pub authorization_endpoint: String,
    /// URL of the token endpoint.
    pub token_endpoint: String,
    /// Base URL of the APIs.
    pub api: String,
    /// The client at the token endpoint.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
}

impl Endpoints {
    pub(super) fn new(addresses: &Addresses, settings: &SandboxSettings) -> Self {
        let api = if settings.plain_apis { "http" } else { "https" };
        let pages = format!("{}://{}", if settings.plain_pages { "http" } else { "https" }, addresses.pages);
        let access = format!("https://{}", addresses.nogi_access);
        Self {
            abn_amro: AbnAmroEndpoints {
                authorization_endpoint: format!("{pages}/as/authorization.oauth2"),
                token_endpoint: format!("https://{}/as/token.oauth2", addresses.abn_token),
                api: format!("{api}://{}", addresses.abn_api),
                client_id: settings.abn_amro_client_id.clone(),
                api_key: settings.api_key.clone(),
            },
            norsk_gjeld: NorskGjeldEndpoints {
                authorization_endpoint: format!("{}/oauth2/auth", if settings.plain_pages { &pages } else { &access }),
                token_endpoint: format!("{access}/oauth2/token"),
                access,
                api: format!("{api}://{}", addresses.nogi_api),
                client_id: settings.norsk_gjeld_client_id.clone(),
                client_secret: settings.norsk_gjeld_client_secret.clone(),
            },
            control: format!("http://{}", addresses.control),
        }
    }
}
