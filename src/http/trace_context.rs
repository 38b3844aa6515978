//! W3C Trace Context, level 1: the trace that a request belongs to goes on through this proxy, as a span of its own.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::words::ids::write_hex;

/// Our place in a trace: its id, our span's id, and whether the caller records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The whole trace; never all zeros.
    pub trace_id: [u8; 16],
    /// One span in it; never all zeros.
    pub span_id: [u8; 8],
    /// The `sampled` flag.
    pub sampled: bool,
}

/// Reads the trace context of a request and writes ours in its place: a new span in the same trace, or in a new trace
/// where there was none that can be read. `tracestate` passes only beside a valid `traceparent` (§3.3). `random` is
/// 24 random bytes.
pub fn propagate(headers: &mut HeaderMap, random: &[u8; 24]) -> TraceContext {
    let (trace, span) = random.split_at(16);
    let incoming = TraceContext::of(headers);
    if incoming.is_none() {
        headers.remove(TRACESTATE);
    }
    let context = TraceContext {
        trace_id: incoming.map_or_else(|| not_zero(trace), |context| context.trace_id),
        span_id: not_zero(span),
        sampled: incoming.is_some_and(|context| context.sampled),
    };
    headers.insert(TRACEPARENT, context.to_header_value());
    context
}

impl TraceContext {
    /// The trace context of a request; `None` unless there is exactly one `traceparent` and it is valid.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        Self::parse(line.as_bytes())
    }

    /// Reads a `traceparent` (§3.2). Later versions are read by the fields that this one knows.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let [version] = hex(known.get(..2)?)?;
        match version {
            0xff => return None,
            0 if !more.is_empty() => return None,
            _ if !more.is_empty() && more.first() != Some(&b'-') => return None,
            _ => {}
        }
        if [2, 35, 52].iter().any(|at| known.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id: [u8; 16] = hex(known.get(3..35)?)?;
        let span_id: [u8; 8] = hex(known.get(36..52)?)?;
        let [flags] = hex(known.get(53..)?)?;
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The `traceparent` that says so, in version 00.
    ///
    /// # Panics
    /// Never: the value is made of hexadecimal digits and hyphens.
    pub fn to_header_value(self) -> HeaderValue {
        let mut text = [b'-'; LENGTH];
        write_hex(&mut text[..2], &[0]);
        write_hex(&mut text[3..35], &self.trace_id);
        write_hex(&mut text[36..52], &self.span_id);
        write_hex(&mut text[53..], &[u8::from(self.sampled)]);
        HeaderValue::from_bytes(&text).expect("hexadecimal digits and hyphens fit a header")
    }
}

/// Ids of zeros are invalid (§3.2.2.3), and random bytes may be anything.
fn not_zero<const N: usize>(random: &[u8]) -> [u8; N] {
    let mut id = [0; N];
    for (to, from) in id.iter_mut().zip(random) {
        *to = *from;
    }
    if id == [0; N] { [1; N] } else { id }
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

const LENGTH: usize = 55;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const RANDOM: [u8; 24] = [0xab; 24];

    fn propagated(lines: &[&'static str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRACEPARENT, HeaderValue::from_static(line));
        }
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
        propagate(&mut headers, &RANDOM);
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        let state = headers.get_all(TRACESTATE).iter().count() == 2;
        (headers[TRACEPARENT].to_str().expect("ASCII").to_owned(), state)
    }

    #[test]
    fn a_valid_trace_goes_on_with_a_span_of_ours() {
        let ours = "00-0af7651916cd43dd8448eb211c80319c-abababababababab-01";
        assert_eq!(propagated(&[VALID]), (ours.into(), true));
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09-what-is-to-come";
        assert_eq!(propagated(&[later]), (ours.into(), true));
    }

    #[test]
    fn an_invalid_or_doubled_traceparent_begins_a_new_trace_without_state() {
        let fresh = "00-abababababababababababababababab-abababababababab-00";
        for lines in [
            &[][..],
            &[""],
            &[VALID, VALID],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"],
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"],
            &["00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01"],
        ] {
            assert_eq!(propagated(lines), (fresh.into(), false), "{lines:?}");
        }
    }

    #[test]
    fn random_zeros_do_not_make_an_invalid_id() {
        let context = propagate(&mut HeaderMap::new(), &[0; 24]);
        assert_eq!(TraceContext::parse(context.to_header_value().as_bytes()), Some(context));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(random in any::<[u8; 24]>()) {
            let mut headers = HeaderMap::new();
            let written = propagate(&mut headers, &random);
            prop_assert_eq!(TraceContext::of(&headers), Some(written));
        }

        #[test]
        fn no_bytes_make_the_parser_panic(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&text);
        }
    }
}
