//! A page of a feed: which consents have ended, and from which number on to read next.
//!
//! Pure, and careful: what is not understood moves nothing. A page that cannot be read as a whole is no page, since behind it
//! may stand the end of a consent. Numbers grow and leave gaps, and are in no order of time.

use serde_json::Value;

use super::FeedCall;

/// What a page tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// The bank's names of the consents that have ended, in the order of their numbers.
    pub(super) ended: Vec<String>,
    /// The next number to read.
    pub(super) next: u64,
    /// Whether there is probably more.
    pub(super) is_full: bool,
    /// Ends of consents of which it does not say which.
    pub(super) nameless: usize,
}

/// Why an answer is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPage {
    #[error("it is not JSON")]
    NotJson,
    #[error("there is no list of events where it should be")]
    NoList,
    #[error("an event has no number")]
    NoNumber,
}

/// Larger numbers are none: nothing could ever come after them.
const MOST: u64 = 999_999_999_999_999;
/// A longer name is none.
const LONGEST_NAME: usize = 512;

/// Reads the answer to a question for events from `from` on.
pub(super) fn read(feed: &FeedCall, body: &[u8], from: u64) -> Result<Page, NoPage> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| NoPage::NotJson)?;
    let list = answer.pointer(&feed.events).and_then(Value::as_array).ok_or(NoPage::NoList)?;
    let number = |event: &Value| event.pointer(&feed.number)?.as_u64().filter(|number| *number < MOST);
    let numbered: Option<Vec<(u64, &Value)>> = list.iter().map(|event| Some((number(event)?, event))).collect();
    let mut numbered = numbered.ok_or(NoPage::NoNumber)?;
    numbered.retain(|(number, _)| *number >= from);
    numbered.sort_by_key(|(number, _)| *number);
    let text = |event: &Value, place: &str| event.pointer(place).and_then(Value::as_str).map(str::to_owned);
    let ends =
        numbered.iter().filter(|(_, event)| text(event, &feed.kind).is_some_and(|kind| feed.ended.contains(&kind)));
    let names: Vec<_> = ends.map(|(_, event)| text(event, &feed.consent).filter(|name| is_name(name))).collect();
    let nameless = names.iter().filter(|name| name.is_none()).count();
    Ok(Page {
        ended: names.into_iter().flatten().collect(),
        next: numbered.last().map_or(from, |(number, _)| number + 1),
        is_full: numbered.len() >= super::LONGEST_PAGE,
        nameless,
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::feed;
    use super::*;

    fn event(number: u64, kind: &str, consent: &str) -> Value {
        json!({"sequenceNr": number, "eventType": kind, "consentId": consent, "samtykkeArkivertEvent": {"consentId": "inner"}})
    }

    fn page(events: &[Value], from: u64) -> Page {
        read(&feed(), json!({ "result": events }).to_string().as_bytes(), from).expect("a page")
    }

    #[test]
    fn the_ends_of_consents_are_told_by_the_outer_name_in_the_order_of_their_numbers() {
        let events = [
            event(9, "SAMTYKKE_ARKIVERT", "b"),
            event(2, "SAMTYKKE_OPPRETTET", "x"),
            event(4, "SAMTYKKE_ARKIVERT", "a"),
            event(1, "SAMTYKKE_ARKIVERT", "read before"),
        ];
        let expected = Page { ended: vec!["a".to_owned(), "b".to_owned()], next: 10, is_full: false, nameless: 0 };
        assert_eq!(page(&events, 2), expected);
    }

    #[test]
    fn a_page_without_events_leaves_the_position_where_it_is() {
        assert_eq!(page(&[], 7), Page { ended: Vec::new(), next: 7, is_full: false, nameless: 0 });
        assert_eq!(page(&[event(6, "SAMTYKKE_ARKIVERT", "a")], 7).next, 7, "and older ones do, too");
    }

    #[test]
    fn an_end_without_a_name_is_counted_and_keeps_nothing_up() {
        let mut nameless = event(3, "SAMTYKKE_ARKIVERT", "");
        assert_eq!((page(std::slice::from_ref(&nameless), 1).nameless, page(&[nameless.clone()], 1).next), (1, 4));
        nameless["consentId"] = json!(17);
        assert_eq!(page(&[nameless], 1).nameless, 1);
    }

    #[test]
    fn what_cannot_be_read_as_a_whole_is_no_page() {
        let rows = [
            ("<html>", NoPage::NotJson),
            ("", NoPage::NotJson),
            ("{}", NoPage::NoList),
            (r#"{"result": {}}"#, NoPage::NoList),
            (r#"{"result": [{"sequenceNr": 1}, {}]}"#, NoPage::NoNumber),
            (r#"{"result": [{"sequenceNr": -1}]}"#, NoPage::NoNumber),
            (r#"{"result": [{"sequenceNr": 999999999999999}]}"#, NoPage::NoNumber),
            (r#"{"result": ["1"]}"#, NoPage::NoNumber),
        ];
        for (body, why) in rows {
            assert_eq!(read(&feed(), body.as_bytes(), 1), Err(why), "{body}");
        }
    }
}
