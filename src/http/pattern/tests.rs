//! Patterns against paths: a table of what each wildcard means, and a naive matcher to agree with.

use http::Uri;
use proptest::prelude::*;

use super::*;
use crate::http::prefix::PathPrefix;
use crate::http::target::CheckedPath;

fn path(target: &str) -> CheckedPath {
    let uri = Uri::try_from(target).expect("a URI");
    CheckedPath::check(&uri, 60_000).expect("an acceptable path")
}

/// What a pattern made of a path: nothing, a match, or a match with a consent id.
#[derive(Debug, PartialEq)]
enum Matched {
    No,
    Yes,
    Consent(String),
}

fn matched(pattern: &str, target: &str) -> Matched {
    let pattern = PathPattern::parse(pattern).expect("a pattern");
    let path = path(target);
    let rest = PathPrefix::parse("/").expect("a prefix").strip(&path).expect("under the root");
    match pattern.matches(rest) {
        Some(Match { consent_segment: Some(id) }) => Matched::Consent(id.into_owned()),
        Some(Match { consent_segment: None }) => Matched::Yes,
        None => Matched::No,
    }
}

#[test]
fn wildcards_take_whole_segments() {
    let rows = [
        ("/", "/", true),
        ("/", "/a", false),
        ("/v1", "/v1", true),
        ("/v1", "/v1/", false),
        ("/v1/", "/v1/", true),
        ("/v1", "/v1x", false),
        ("/*", "/", false),
        ("/*", "/a", true),
        ("/*", "/a/b", false),
        ("/v1/*", "/v1/", false),
        ("/v1/accounts/*/balances", "/v1/accounts/NL1/balances", true),
        ("/v1/accounts/*/balances", "/v1/accounts/NL1/transactions", false),
        ("/v1/accounts/*/balances", "/v1/accounts/a/b/balances", false),
        ("/**", "/", true),
        ("/**", "/a/b/c/", true),
        ("/v1/**", "/v1", true),
        ("/v1/**", "/v1/", true),
        ("/v1/**", "/v10", false),
        ("/**/balances", "/balances", true),
        ("/**/balances", "/a/balances/b/balances", true),
        ("/**/balances", "/a/balances/b", false),
        ("/a/**/b/**/c", "/a/b/c", true),
        ("/a/**/b/**/c", "/a/x/b/b/y/c", true),
        ("/a/**/b/**/c", "/a/x/c", false),
        ("/caf\u{e9}", "/caf%C3%A9", true),
        ("/a:b", "/a%3Ab", true),
    ];
    for (pattern, target, wanted) in rows {
        assert_eq!(matched(pattern, target) == Matched::Yes, wanted, "{pattern} on {target}");
    }
}

#[test]
fn the_consent_segment_is_handed_out_decoded_once() {
    let rows = [
        ("/v1/debt/{consent_id}/**", "/v1/debt/c1", Some("c1")),
        ("/v1/debt/{consent_id}/**", "/v1/debt/c%3A1/x/y", Some("c:1")),
        ("/v1/debt/{consent_id}/**", "/v1/debt/c%2541", Some("c%41")),
        ("/v1/debt/{consent_id}", "/v1/debt/", None),
        ("/**/{consent_id}/status", "/v1/a/b/c1/status", Some("c1")),
        ("/**/{consent_id}", "/c1", Some("c1")),
        ("/**/{consent_id}", "/", None),
    ];
    for (pattern, target, wanted) in rows {
        let wanted = wanted.map_or(Matched::No, |id| Matched::Consent(id.to_owned()));
        assert_eq!(matched(pattern, target), wanted, "{pattern} on {target}");
    }
}

#[test]
fn a_pattern_that_cannot_mean_anything_is_refused_with_its_place() {
    let rows = [
        ("v1", PatternError::NoSlash),
        ("", PatternError::NoSlash),
        ("/a//b", PatternError::EmptySegment(2)),
        ("/a/../b", PatternError::DotSegment("..".into())),
        ("/v*/x", PatternError::PartialWildcard("v*".into())),
        ("/***", PatternError::PartialWildcard("***".into())),
        ("/{id}", PatternError::Placeholder("{id}".into())),
        ("/x{consent_id}", PatternError::Placeholder("x{consent_id}".into())),
        ("/{consent_id}/{consent_id}", PatternError::ConsentIdTwice),
        ("/**/{consent_id}/**", PatternError::Ambiguous),
        ("/a%20b", PatternError::Character { segment: "a%20b".into(), character: '%' }),
        ("/a?b", PatternError::Character { segment: "a?b".into(), character: '?' }),
    ];
    for (text, fault) in rows {
        assert_eq!(PathPattern::parse(text), Err(fault), "{text}");
    }
}

#[test]
fn many_wildcards_on_a_long_path_take_bounded_work() {
    let pattern = format!("{}/b", "/**/a".repeat(200));
    let target = "/a".repeat(4_000);
    // Exponential matching would not end in the lifetime of the machine.
    assert_eq!(matched(&pattern, &target), Matched::No);
}

fn naive(pieces: &[Piece], segments: &[&str]) -> bool {
    match (pieces.split_first(), segments.split_first()) {
        (None, None) => true,
        (Some((Piece::AnySegments, after)), _) => (0..=segments.len()).any(|taken| naive(after, &segments[taken..])),
        (Some((piece, after)), Some((segment, rest))) => {
            let fits = match piece {
                Piece::Literal(text) => **text == **segment,
                _ => !segment.is_empty(),
            };
            fits && naive(after, rest)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn the_matcher_agrees_with_a_naive_one(
        pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**", "**"]), 0..7),
        segments in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..9),
        trailing_slash in any::<bool>(),
    ) {
        let parsed = PathPattern::parse(&format!("/{}", pattern.join("/"))).expect("a pattern");
        let mut target = format!("/{}", segments.join("/"));
        let mut wanted = segments;
        if trailing_slash && !wanted.is_empty() {
            target.push('/');
            wanted.push("");
        }
        prop_assert_eq!(fits(&parsed.pieces, Segments::of(&target)), naive(&parsed.pieces, &wanted));
    }

    #[test]
    fn the_consent_segment_stands_where_the_pattern_says(
        before in prop::collection::vec("[a-z]{1,3}", 0..4),
        id in "[A-Za-z0-9._~:-]{1,20}",
        after in prop::collection::vec("[a-z]{1,3}", 0..4),
        front in any::<bool>(),
    ) {
        prop_assume!(id != "." && id != "..");
        let join = |parts: &[String]| parts.iter().flat_map(|p| ["/", p]).collect::<String>();
        let (before, after) = (join(&before), join(&after));
        let pattern = if front {
            format!("/**/{{consent_id}}{after}")
        } else {
            format!("{before}/{{consent_id}}/**")
        };
        prop_assert_eq!(matched(&pattern, &format!("{before}/{id}{after}")), Matched::Consent(id));
    }
}
