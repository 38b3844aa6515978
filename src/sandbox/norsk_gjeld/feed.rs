//! `/feed/v1/consent`: which consents were created and which are archived, over the last seven days.
//!
//! Sequence numbers grow and leave gaps; a consent that has run out is archived with the time of its end, which may lie
//! before that of the event with the number before. Both are the real feed's ways.

use std::collections::VecDeque;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde_json::json;

use super::super::answers::{Answer, Form, json, uuid};
use super::super::world::{World, lock};
use super::api::{spring, unless_allowed};
use super::register::Now;
use super::{FEED, FEED_SCOPE};
use crate::words::clock::{Clock, WallTime};

/// How long an event can be read.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Events kept at most.
const MAX_EVENTS: usize = 400_000;
/// Events on a page, where fewer are not asked for.
const PAGE: usize = 500;

/// What has happened to consents, oldest number first.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Feed {
    events: VecDeque<Event>,
    /// The latest number that is given or left out.
    last: u64,
}

#[derive(Debug)]
struct Event {
    number: u64,
    id: String,
    at: WallTime,
    /// The consent it is about.
    of: Subject,
    archived: bool,
}

/// A consent as events name it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) consent: String,
    pub(super) scope: String,
    /// The client's own id, of a consent that the client has registered.
    pub(super) external: Option<String>,
}

impl Feed {
    pub(super) fn created(&mut self, at: WallTime, of: Subject) {
        self.push(at, of, false);
    }

    pub(super) fn archived(&mut self, at: WallTime, of: Subject) {
        self.push(at, of, true);
    }

    /// Leaves out so many numbers before the next event.
    pub(in crate::sandbox) fn skip(&mut self, numbers: u64) {
        self.last = self.last.saturating_add(numbers);
    }

    fn push(&mut self, at: WallTime, of: Subject, archived: bool) {
        self.last = self.last.saturating_add(1);
        self.events.push_back(Event { number: self.last, id: uuid(), at, of, archived });
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }

    fn kept(&self, now: WallTime) -> impl Iterator<Item = &Event> {
        let old = move |event: &Event| now.checked_since(event.at).is_some_and(|age| age > KEPT);
        self.events.iter().filter(move |event| !old(event))
    }
}

/// Answers a GET below [`FEED`]; `None` if there is nothing of this path.
pub(super) fn answer<C: Clock>(world: &World<C>, now: Now, head: &Parts) -> Option<Answer> {
    let rest = head.uri.path().strip_prefix(FEED)?;
    if !["", "/firstSequenceNr", "/lastSequenceNr"].contains(&rest) {
        return None;
    }
    let mut register = lock(&world.norsk_gjeld);
    if let Some(refused) = unless_allowed(&register, now, head, FEED, FEED_SCOPE) {
        return Some(refused);
    }
    register.archive_expired(now.boot);
    let feed = &register.feed;
    let number = |event: Option<&Event>| event.map_or(0, |event| event.number);
    Some(match rest {
        "/firstSequenceNr" => json(StatusCode::OK, &json!({ "firstSequenceNr": number(feed.kept(now.wall).next()) })),
        "/lastSequenceNr" => json(StatusCode::OK, &json!({ "lastSequenceNr": number(feed.kept(now.wall).last()) })),
        _ => {
            let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes());
            let read = |name, absent| query.get(name).map_or(Ok(absent), str::parse::<u64>);
            match (read("fromSequenceNr", 1), read("limit", PAGE as u64)) {
                (Ok(from), Ok(limit)) if limit > 0 => {
                    page(feed, now, from, limit, &world.settings.norsk_gjeld_client_id)
                }
                _ => spring(now, head, StatusCode::BAD_REQUEST, "fromSequenceNr and limit are positive numbers"),
            }
        }
    })
}

/// A page of events, its members in the documents' order. Without an event it ends just before it begins, so that a
/// reader who goes on behind its end misses nothing.
fn page(feed: &Feed, now: Now, from: u64, limit: u64, client_id: &str) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Page<'e> {
        start_sequence_nr: u64,
        end_sequence_nr: u64,
        generated_at: String,
        result: Vec<Shown<'e>>,
    }
    let limit = usize::try_from(limit).unwrap_or(PAGE).min(PAGE);
    let events = feed.kept(now.wall).filter(|event| event.number >= from).take(limit);
    let result: Vec<_> = events.map(|event| Shown::new(event, client_id)).collect();
    let page = Page {
        start_sequence_nr: result.first().map_or(from, |event| event.sequence_nr),
        end_sequence_nr: result.last().map_or(from.saturating_sub(1), |event| event.sequence_nr),
        generated_at: now.wall.to_string(),
        result,
    };
    json(StatusCode::OK, &page)
}

/// An event as the feed shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'e> {
    sequence_nr: u64,
    event_id: &'e str,
    consent_id: &'e str,
    timestamp: String,
    event_type: &'static str,
    samtykke_opprettet_event: Option<Created<'e>>,
    samtykke_arkivert_event: Option<Archived<'e>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created<'e> {
    client_id: &'e str,
    consent_id: &'e str,
    scope: &'e str,
    external_consent_id: Option<&'e str>,
}

/// Its `consentId` is the client's own id, where there is one; the event's outer member is the service's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Archived<'e> {
    client_id: &'e str,
    consent_id: &'e str,
}

impl<'e> Shown<'e> {
    fn new(event: &'e Event, client_id: &'e str) -> Self {
        let Subject { consent, scope, external } = &event.of;
        let external = external.as_deref();
        let created = Created { client_id, consent_id: consent, scope, external_consent_id: external };
        let archived = Archived { client_id, consent_id: external.unwrap_or(consent) };
        Self {
            sequence_nr: event.number,
            event_id: &event.id,
            consent_id: consent,
            timestamp: event.at.to_string(),
            event_type: if event.archived { "SAMTYKKE_ARKIVERT" } else { "SAMTYKKE_OPPRETTET" },
            samtykke_opprettet_event: (!event.archived).then_some(created),
            samtykke_arkivert_event: event.archived.then_some(archived),
        }
    }
}
