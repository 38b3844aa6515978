//! `consentry consent list`: which consents there are, page by page as they come.

use std::collections::HashSet;

use http::Method;
use serde_json::{Value, json};

use super::call::Call;
use super::exit::Failure;
use super::out;
use super::running::{ask_running, open};
use crate::app::AppTokens;
use crate::config::Config;
use crate::config::value::duration;
use crate::consent::{ListError, ListRequest, list};
use crate::words::clock::{Clock as _, SystemClock};

/// Which consents are wanted.
#[derive(Debug, clap::Args)]
pub(super) struct Filters {
    /// Only those in this state, such as active or `reauthorization_required`; unreadable for records that cannot be understood.
    /// Several with commas between.
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,
    /// Only those of this provider.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only those that end before this time (RFC 3339), or within so long from now, such as 14d.
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    /// So many at most; without it, all.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Whom pages are had from.
enum Desk {
    Running(Box<Config>),
    Own(AppTokens),
}

/// Prints what is found while it is found.
pub(super) async fn print_list(config: Config, filters: &Filters, json: bool) -> Result<(), Failure> {
    let query = filters.query()?;
    let limit = filters.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let size = limit.min(PAGE);
    let mut table = Table::new(json);
    let (mut desk, mut cursor, mut told) = (Desk::Running(Box::new(config)), None::<String>, HashSet::new());
    loop {
        let page = match cursor {
            None => format!("{query}&limit={size}"),
            Some(cursor) => format!("{query}&limit={size}&cursor={cursor}"),
        };
        let view;
        (view, desk) = desk.page(&page).await?;
        for consent in view["consents"].as_array().into_iter().flatten() {
            let name = consent["consent_id"].as_str().unwrap_or_default();
            // Two pages may hold the same one.
            if told.len() < limit && told.insert(name.to_owned()) && !table.row(consent) {
                return Ok(());
            }
        }
        cursor = view["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || told.len() >= limit {
            table.end();
            return Ok(());
        }
    }
}

/// How many consents one page is to hold.
const PAGE: usize = 200;

impl Desk {
    /// One page. Where no process runs, the store is opened, once.
    async fn page(self, query: &str) -> Result<(Value, Self), Failure> {
        let tokens = match self {
            Self::Running(config) => {
                let path = format!("/v1/consents?{query}");
                if let Some(view) = ask_running(&config, Call::new(Method::GET, &path)).await? {
                    return Ok((view, Self::Running(config)));
                }
                open(*config)?
            }
            Self::Own(tokens) => tokens,
        };
        let request = ListRequest::parse(query).map_err(|fault| Failure::Usage(fault.to_string()))?;
        let page = list(&tokens, &SystemClock, &request).await.map_err(|error| match error {
            ListError::Fault(fault) => Failure::Other(fault.to_string()),
            ListError::StoreUnavailable(why) => Failure::Unavailable(why),
        })?;
        let view = serde_json::to_value(&page).map_err(|error| Failure::Other(error.to_string()))?;
        Ok((view, Self::Own(tokens)))
    }
}

impl Filters {
    /// The same as parameters of `GET /v1/consents`, looked at here first, so that a fault is named without a round trip.
    fn query(&self) -> Result<String, Failure> {
        let mut parameters = Vec::new();
        if !self.state.is_empty() {
            parameters.push(format!("state={}", self.state.join(",")));
        }
        parameters.extend(self.provider.as_ref().map(|provider| format!("provider={provider}")));
        if let Some(time) = &self.expires_before {
            let time = match duration(time) {
                Ok(from_now) => SystemClock.wall().plus(from_now).to_string(),
                // A plus would be read as a space.
                Err(_) => time.replace('+', "%2B"),
            };
            parameters.push(format!("expires_before={time}"));
        }
        // Nothing may end its parameter, or the query.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-' | b',' | b':' | b'.' | b'%');
        if !parameters.iter().all(|parameter| parameter.bytes().all(plain)) {
            return Err(Failure::Usage("a filter holds a character that none has".to_owned()));
        }
        let query = parameters.join("&");
        ListRequest::parse(&query).map_err(|fault| Failure::Usage(fault.to_string()))?;
        Ok(query)
    }
}

/// Lines under a head, or the members of one JSON document.
struct Table {
    json: bool,
    rows: usize,
}

impl Table {
    const fn new(json: bool) -> Self {
        Self { json, rows: 0 }
    }

    /// Whether anybody reads on.
    fn row(&mut self, consent: &Value) -> bool {
        let is_first = self.rows == 0;
        self.rows += 1;
        let line = match (self.json, is_first) {
            (true, true) => format!("{{\"consents\": [\n{consent}"),
            (true, false) => format!(",\n{consent}"),
            (false, true) => format!("{}\n{}\n", cells(HEAD), cells(fields(consent).each_ref().map(String::as_str))),
            (false, false) => format!("{}\n", cells(fields(consent).each_ref().map(String::as_str))),
        };
        out::write(&line)
    }

    fn end(&self) {
        match (self.json, self.rows) {
            (true, 0) => out::say(&json!({ "consents": [] }).to_string()),
            (true, _) => out::say("\n]}"),
            (false, 0) => out::complain("no consent fits"),
            (false, _) => {}
        }
    }
}

const HEAD: [&str; 5] = ["CONSENT", "PROVIDER", "STATE", "TOKEN LIVES", "CONSENT ENDS"];

fn fields(consent: &Value) -> [String; 5] {
    let text = |name: &str| consent[name].as_str().unwrap_or("-").to_owned();
    let lives = consent["access_token_expires_in"].as_u64().map_or_else(|| "-".to_owned(), |left| format!("{left} s"));
    [text("consent_id"), text("provider"), text("state"), lives, text("consent_expires_at")]
}

fn cells([consent, provider, state, lives, ends]: [&str; 5]) -> String {
    format!("{consent:36}  {provider:16}  {state:24}  {lives:>11}  {ends}")
}

pub(super) const LIST_HELP: &str = "Examples:
  consentry consent list --config consentry.yaml
  consentry consent list --state reauthorization_required --provider abn-amro
  consentry consent list --expires-before 14d --json

A consent that is stored while the list is read is in it; one that comes or goes meanwhile may be. They are in no order.";

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(state: &[&str], expires_before: Option<&str>) -> Filters {
        Filters {
            state: state.iter().map(ToString::to_string).collect(),
            provider: Some("bank".to_owned()),
            expires_before: expires_before.map(str::to_owned),
            limit: None,
        }
    }

    #[test]
    fn filters_become_a_query_that_is_one() {
        let query = filters(&["active", "denied"], Some("2026-01-31T12:00:00+01:00")).query().unwrap();
        assert_eq!(query, "state=active,denied&provider=bank&expires_before=2026-01-31T12:00:00%2B01:00");
        assert!(filters(&[], Some("14d")).query().unwrap().contains("expires_before=2"));
        for wrong in [filters(&["odd"], None), filters(&["active&limit=1"], None), filters(&[], Some("soon"))] {
            assert!(matches!(wrong.query(), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_row_has_its_cells_under_the_head() {
        let consent = json!({"consent_id": "customer-1", "provider": "abn-amro", "state": "active",
            "access_token_expires_in": 7100, "consent_expires_at": "2027-01-01T00:00:00Z"});
        let (head, row) = (cells(HEAD), cells(fields(&consent).each_ref().map(String::as_str)));
        for (name, value) in [("PROVIDER", "abn-amro"), ("STATE", "active"), ("CONSENT ENDS", "2027")] {
            assert_eq!(head.find(name), row.find(value), "{name}");
        }
        assert!(
            cells(fields(&json!({"consent_id": "x", "state": "unreadable"})).each_ref().map(String::as_str))
                .contains('-')
        );
    }
}
