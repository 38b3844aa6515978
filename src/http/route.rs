//! What a route of the configuration matches: `GET,DELETE /v1/debt/{consent_id}/**`.

use http::Method;

use super::pattern::{Match, PathPattern, PatternError};
use super::prefix::Rest;

/// Methods and a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteMatch {
    methods: Option<Box<[Method]>>,
    pattern: PathPattern,
}

/// Why a text is not a route's match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteMatchError {
    /// Something other than a pattern, or methods and a pattern.
    #[error("a path pattern is needed, with methods before it or not: \"GET,DELETE /v1/**\"")]
    Shape,
    /// A comma with no method on one of its sides.
    #[error("the method list {0:?} holds an empty method")]
    EmptyMethod(String),
    /// Not a token (RFC 9110 §5.6.2).
    #[error("{0:?} is not a method")]
    Method(String),
    /// The pattern is at fault.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// What an API's routes say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<'p> {
    /// The route at this position, the first that fits, takes it.
    Route(usize, Match<'p>),
    /// The path fits routes, but none of them allows the method; these would be.
    MethodNotAllowed(Vec<Method>),
    /// No route fits the path.
    PathNotAllowed,
}

impl RouteMatch {
    /// Reads a match as configured. Methods are case-sensitive (RFC 9110 §9.1), so `get` is one that `GET` is not.
    pub fn parse(text: &str) -> Result<Self, RouteMatchError> {
        let mut words = text.split_ascii_whitespace();
        let (methods, pattern) = match (words.next(), words.next(), words.next()) {
            (Some(pattern), None, None) => (None, pattern),
            (Some(methods), Some(pattern), None) => (Some(parse_methods(methods)?), pattern),
            _ => return Err(RouteMatchError::Shape),
        };
        Ok(Self { methods, pattern: PathPattern::parse(pattern)? })
    }

    /// Whether a request of this method may take the route.
    pub fn allows(&self, method: &Method) -> bool {
        self.methods.as_deref().is_none_or(|methods| methods.contains(method))
    }

    /// The methods listed; `None` allows any.
    pub fn methods(&self) -> Option<&[Method]> {
        self.methods.as_deref()
    }

    /// The path pattern.
    pub const fn pattern(&self) -> &PathPattern {
        &self.pattern
    }
}

/// Finds the first of `routes` that takes the request.
pub fn choose<'r, 'p>(routes: impl IntoIterator<Item = &'r RouteMatch>, method: &Method, rest: Rest<'p>) -> Choice<'p> {
    let mut allowed: Vec<Method> = Vec::new();
    for (index, route) in routes.into_iter().enumerate() {
        let Some(found) = route.pattern.matches(rest) else { continue };
        match &route.methods {
            Some(methods) if !methods.contains(method) => {
                for other in methods {
                    if !allowed.contains(other) {
                        allowed.push(other.clone());
                    }
                }
            }
            Some(_) | None => return Choice::Route(index, found),
        }
    }
    if allowed.is_empty() { Choice::PathNotAllowed } else { Choice::MethodNotAllowed(allowed) }
}

fn parse_methods(list: &str) -> Result<Box<[Method]>, RouteMatchError> {
    list.split(',')
        .map(|name| match name {
            "" => Err(RouteMatchError::EmptyMethod(list.to_owned())),
            _ => Method::from_bytes(name.as_bytes()).map_err(|_| RouteMatchError::Method(name.to_owned())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::prefix::PathPrefix;
    use crate::http::target::CheckedPath;
    use http::Uri;

    fn choice(routes: &[&str], method: &str, target: &'static str) -> (Option<usize>, String) {
        let routes: Vec<_> = routes.iter().map(|text| RouteMatch::parse(text).expect("a route")).collect();
        let path = CheckedPath::check(&Uri::from_static(target), 1_000).expect("acceptable");
        let rest = PathPrefix::parse("/debt").expect("a prefix").strip(&path).expect("under it");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        match choose(&routes, &method, rest) {
            Choice::Route(index, found) => (Some(index), found.consent_segment.unwrap_or_default().into_owned()),
            Choice::MethodNotAllowed(methods) => (None, format!("{methods:?}")),
            Choice::PathNotAllowed => (None, "path".into()),
        }
    }

    const NORSK_GJELD: &[&str] = &[
        "PUT /v1/consent/agreement",
        "GET,DELETE /v1/debt/{consent_id}/**",
        "GET,HEAD /v1/**",
        "M-SEARCH /v1/consent/*",
    ];

    #[test]
    fn the_first_route_that_fits_method_and_path_is_chosen() {
        let rows = [
            ("PUT", "/debt/v1/consent/agreement", (Some(0), "")),
            ("GET", "/debt/v1/debt/c1/x", (Some(1), "c1")),
            ("GET", "/debt/v1/debt", (Some(2), "")),
            ("M-SEARCH", "/debt/v1/consent/x", (Some(3), "")),
            ("get", "/debt/v1/debt/c1", (None, "[GET, DELETE, HEAD]")),
            ("POST", "/debt/v1/consent/agreement", (None, "[PUT, GET, HEAD, M-SEARCH]")),
            ("GET", "/debt/v2", (None, "path")),
            ("GET", "/debt", (None, "path")),
        ];
        for (method, target, (index, words)) in rows {
            let found = choice(NORSK_GJELD, method, target);
            assert_eq!(found, (index, words.to_owned()), "{method} {target}");
        }
    }

    #[test]
    fn a_route_without_methods_takes_any() {
        assert_eq!(choice(&["/v1/**"], "PROPFIND", "/debt/v1/x").0, Some(0));
    }

    #[test]
    fn a_faulty_match_is_refused_with_its_reason() {
        let rows = [
            ("", RouteMatchError::Shape),
            ("GET /v1 /v2", RouteMatchError::Shape),
            ("GET, DELETE /v1", RouteMatchError::Shape),
            ("GET, /v1", RouteMatchError::EmptyMethod("GET,".into())),
            ("GET;POST /v1", RouteMatchError::Method("GET;POST".into())),
            ("GET v1", RouteMatchError::Pattern(PatternError::NoSlash)),
            ("GET", RouteMatchError::Pattern(PatternError::NoSlash)),
        ];
        for (text, fault) in rows {
            assert_eq!(RouteMatch::parse(text), Err(fault), "{text:?}");
        }
    }
}
