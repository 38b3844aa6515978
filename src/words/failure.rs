//! Why a refresh got nothing, or a consent ended: the words that stand in records, histories, metrics and errors.
//!
//! One list, so that a person is told of each what it means and what to do, and none is forgotten.

macro_rules! classes {
    ($($variant:ident = $word:literal, $says:literal;)*) => {
        /// The class of a failure. Variants are documented by what a person is told.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailureClass { $(#[doc = $says] $variant,)* }

        impl FailureClass {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stored word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What happened, a sentence without its capital and its full stop.
            pub const fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }
        }
    };
}

classes! {
    // The bank's side kept the request from being sent, or could not be reached.
    Unreachable = "unreachable", "the bank's token endpoint could not be reached; nothing was sent";
    TlsRefused = "tls_refused", "the TLS handshake with the bank's token endpoint failed; nothing was sent";
    CertificateRefused = "certificate_refused", "the bank's token endpoint refused our client certificate";
    // Our side did.
    NotSent = "not_sent", "the refresh was given up before anything was sent";
    Queued = "queued", "the refresh had to queue, because the bank is asked a bounded number of things at once";
    Settling = "settling", "the store was away a moment ago, and whoever has an answer gets to tell it first";
    NoPermit = "no_permit", "the store could not be asked for leave to send to the bank; nothing was sent";
    BreakerOpen = "breaker_open", "the bank is left alone for a while, because requests of several replicas or consents failed; nothing was sent";
    ProviderFrozen = "provider_frozen", "refreshing at this bank is frozen; nothing was sent";
    RequestImpossible = "request_impossible", "the settings for the bank's token endpoint make no request";
    SpillUnavailable = "spill_unavailable", "the spill directory cannot be written, and the configuration requires it; nothing was sent";
    NotDurable = "not_durable", "too few Redis replicas acknowledged the intent; nothing was sent";
    Unreadable = "unreadable", "the refresh token does not open with the seal keys at hand; nothing was sent";
    NoRefreshToken = "no_refresh_token", "the consent has no refresh token, so it lasts as long as its access token";
    // The bank turned it away.
    RateLimited = "rate_limited", "the bank asked for fewer requests";
    InvalidRequest = "invalid_request", "the bank said `invalid_request`, which some banks say to a refresh that met another";
    UseDpopNonce = "use_dpop_nonce", "the bank asked for a `DPoP` nonce, which this program does not send";
    InvalidClient = "invalid_client", "the bank did not accept our client authentication";
    UnauthorizedClient = "unauthorized_client", "the bank does not let our client refresh";
    UnsupportedGrantType = "unsupported_grant_type", "the bank's token endpoint knows no refresh";
    InvalidScope = "invalid_scope", "the bank did not accept the scope of the request";
    Redirect = "redirect", "the bank's token endpoint answered with a redirect, which is never followed";
    // Nobody knows what the bank did.
    ServerError = "server_error", "the bank answered with an error of its own, which says nothing about what it did before";
    UnexpectedStatus = "unexpected_status", "the bank answered with a status that a token endpoint does not have";
    UnexpectedAnswer = "unexpected_answer", "the bank's answer was no answer of a token endpoint";
    NotHttp = "not_http", "the bank's answer was not HTTP";
    ConnectionLost = "connection_lost", "the connection broke before the bank's answer was there";
    FenceLost = "fence_lost", "the right to refresh went to somebody else, so the request was cut";
    NoAnswer = "no_answer", "the bank did not answer in two minutes";
    // It said yes, and the answer is of no use.
    TruncatedAnswer = "truncated_answer", "the bank's answer was cut off";
    OversizedAnswer = "oversized_answer", "the bank's answer was longer than is read";
    UnreadableAnswer = "unreadable_answer", "the bank said yes in a way that cannot be read";
    EmptyAccessToken = "empty_access_token", "the bank said yes and gave an empty access token";
    // It refused one refresh token, and there is another.
    Alternate = "alternate", "the bank refused the refresh token, and the one that came second takes its place";
    // It refused this one and others with it.
    RefusedOnce = "refused_once", "the bank refused the refresh tokens of several consents at once, so none of them is given up yet";
    // It no longer accepts the refresh token.
    RevokedOrExpired = "revoked_or_expired", "the bank no longer accepts the refresh token, and nothing on our side explains it";
    LostReply = "lost_reply", "the bank's answer to a refresh was lost, and the refresh token that came with it";
    LateSend = "late_send", "a process stood still and sent a refresh after its right to was over, so the bank may have seen the token twice";
    DoubleSend = "double_send", "two refreshes with the same token were under way, because the store lost the note of one";
    StoreForgot = "store_forgot", "the store took back a refresh that it had acknowledged, and the older token is of no more use";
    // The consent ended.
    BankSaysEnded = "bank_says_ended", "the bank's API said that the consent has ended";
    RevokedOnRequest = "revoked_on_request", "it was revoked on request, at the bank and then here";
    RevokedHereOnly = "revoked_here_only", "it was revoked here on request, and the bank was not told";
    RevokedBeforeGrant = "revoked_before_grant", "it was revoked here on request before the customer had granted it";
    RevokedInDoubt = "revoked_in_doubt", "it was revoked on request; the answer to an earlier refresh was lost, so the bank may hold tokens of it that nobody knows";
    // The bank's API about consents said no.
    TokenRejected = "token_rejected", "the bank's API accepted no token of ours";
}

impl FailureClass {
    /// Reads a stored word; `None` for one of another release.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_class_reads_back_and_has_a_sentence_of_its_own() {
        let sentences: BTreeSet<_> = FailureClass::ALL.iter().map(|class| class.says()).collect();
        assert_eq!(sentences.len(), FailureClass::ALL.len());
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::parse(class.as_str()), Some(*class));
        }
        assert_eq!(FailureClass::parse("of another release"), None);
    }
}
