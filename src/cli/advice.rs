//! What to do about an answer of the proxy's own, in words for the person at the terminal.

use crate::words::problem::{BASE, ProblemType};

/// The problem that a `type` names.
pub(super) fn problem(kind: &str) -> Option<ProblemType> {
    let slug = kind.strip_prefix(BASE)?;
    ProblemType::ALL.iter().copied().find(|problem| problem.slug() == slug)
}

/// What the person does, about a call with this consent.
pub(super) fn advice(problem: ProblemType, consent: &str) -> String {
    match problem {
        ProblemType::ConsentIdMissing | ProblemType::ConsentIdInvalid => {
            "the consent that is named here and the one in the path have to be the same; look at the route's match in the \
             configuration"
                .to_owned()
        }
        ProblemType::NoSuchApi => "look at apis in the configuration: each has a path that its calls begin with".to_owned(),
        ProblemType::RouteNotAllowed | ProblemType::MethodNotAllowed => {
            "add a route to the API in the configuration if this call is meant, and restart".to_owned()
        }
        ProblemType::ConsentUnknown => format!(
            "`consentry consent list` shows which consents there are and of which provider; `consentry login PROVIDER \
             --consent {consent}` starts this one"
        ),
        ProblemType::ConsentPending => {
            format!("finish consenting at the bank; `consentry login PROVIDER --consent {consent}` begins anew")
        }
        ProblemType::ConsentDenied
        | ProblemType::ConsentRevoked
        | ProblemType::ConsentExpired
        | ProblemType::ConsentReauthorizationRequired => format!(
            "`consentry consent why {consent}` tells what happened; `consentry login PROVIDER --consent {consent}` has the \
             customer consent again"
        ),
        ProblemType::ScopeInsufficient => format!(
            "`consentry login PROVIDER --consent {consent} --scope SCOPE` asks for more; `consentry consent show {consent}` \
             says what it covers"
        ),
        ProblemType::TokenWaitTimeout
        | ProblemType::TokenEndpointUnavailable
        | ProblemType::TokenRefreshUncertain => {
            format!("try again in a while; `consentry consent why {consent}` tells what is going on")
        }
        ProblemType::ProviderFrozen => {
            "`consentry provider show` says who froze it and why; `consentry provider thaw NAME` ends that".to_owned()
        }
        ProblemType::ProviderMisconfigured => {
            "check the provider's client_id, client_auth, certificates and token_endpoint in the configuration".to_owned()
        }
        ProblemType::StoreUnavailable => {
            "bring the store back; `consentry store doctor` examines it".to_owned()
        }
        ProblemType::ConsentUnreadable => {
            "check that the seal keys are those it was stored with; the record was left as it is".to_owned()
        }
        ProblemType::QuotaExhausted => "wait, or call while the customer is present".to_owned(),
        ProblemType::UpstreamUnreachable | ProblemType::UpstreamTimeout | ProblemType::UpstreamProtocol => {
            "look at the API's upstream in the configuration, and at the bank".to_owned()
        }
        ProblemType::BadRequest
        | ProblemType::TargetTooLong
        | ProblemType::ExpectationFailed
        | ProblemType::HeadersTooLarge
        | ProblemType::NotSupported
        | ProblemType::RequestTooLarge
        | ProblemType::RequestTimeout => "change the call as the detail says".to_owned(),
        ProblemType::LoopDetected => "an API's upstream points back at this proxy; correct it".to_owned(),
        ProblemType::Overloaded | ProblemType::Draining => "try again in a moment".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_found_by_its_type_and_has_its_advice() {
        for kind in ProblemType::ALL {
            assert_eq!(problem(&kind.uri()), Some(*kind));
            assert!(advice(*kind, "customer-1").len() > 10, "{kind:?}");
        }
        for foreign in ["", "about:blank", "https://bank.example/problems/consent-unknown"] {
            assert_eq!(problem(foreign), None);
        }
    }
}
