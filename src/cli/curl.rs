//! `consentry curl`: one call with a consent's token, through the process that runs.
//!
//! The head of the answer goes to standard error, its body to standard output, as it comes. Where the proxy answers
//! itself, and not the bank, it is said what happened and what to do about it.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::advice::{advice, problem};
use super::call::{Call, CallError};
use super::consent::consent_id;
use super::exit::Failure;
use super::run::load;
use super::{out, runtime};
use crate::http::location::{LocationFate, rewrite};
use crate::net::serve::Bind;
use crate::proxy::settings::ProxySettings;
use crate::words::problem::WhoActs;

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Arguments {
    /// The consent's id.
    consent: String,
    /// A path of the proxy, such as /accounts/v1/accounts, or the bank's own URL of it.
    target: String,
    /// The method; GET without it, or POST with a body.
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<String>,
    /// A header more, as `Name: value`.
    #[arg(short = 'H', long, value_name = "LINE")]
    header: Vec<String>,
    /// A body, or @ and a file to read it from; @- for standard input. It is JSON unless a Content-Type is given.
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    max_time: u32,
    /// The configuration file.
    #[arg(long, short, env = "CONSENTRY_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

const HELP: &str = "Examples:
  consentry curl customer-4711 /accounts/v1/accounts/NL12ABNA9999876523/balances
  consentry curl customer-4711 https://api-sandbox.abnamro.com/v1/accounts/NL12ABNA9999876523/balances
  consentry curl customer-4711 /payments/v1/payments -d @payment.json -H 'Idempotency-Key: 1'

Ends with 0 where the bank answers with a status below 400, with 69 where nobody runs or a later try may do, and with 1 for
anything else.";

pub(super) fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let consent = consent_id(&arguments.consent)?;
    let (config, _) = load(&arguments.config)?;
    let path = local_path(&arguments.target, &config.proxy)?;
    let mut headers = lines(&arguments.header)?;
    let named = HeaderValue::from_str(consent.as_str()).map_err(|error| Failure::Usage(error.to_string()))?;
    if headers.insert(config.proxy.consent_header.clone(), named).is_some() {
        return Err(Failure::Usage(format!("-H {} is set by the consent", config.proxy.consent_header)));
    }
    let body = arguments.data.as_deref().map(body).transpose()?;
    if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let method = match (&arguments.request, &body) {
        (Some(name), _) => {
            Method::from_bytes(name.as_bytes()).map_err(|_| Failure::Usage(format!("-X {name}: it is no method")))?
        }
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    let patience = Duration::from_secs(arguments.max_time.into());
    let mut call = Call::new(method, &path).within(patience);
    call.headers = headers;
    call.body = body.unwrap_or_default();
    let spoken = runtime()?.block_on(async {
        let whole = exchange(call, &config.proxy.bind, json);
        let late = |_| Failure::Unavailable(format!("it took longer than {} s", patience.as_secs()));
        timeout(patience, whole).await.map_err(late)?
    })?;
    spoken.judge(consent.as_str())
}

/// Who answered, and what.
#[derive(Debug)]
enum Spoken {
    /// The bank.
    Bank(StatusCode),
    /// The proxy: a problem document of its own.
    Proxy(Value),
}

impl Spoken {
    fn judge(self, consent: &str) -> Result<(), Failure> {
        let told = match self {
            Self::Bank(status) if status.as_u16() < 400 => return Ok(()),
            Self::Bank(status) => return Err(Failure::Other(format!("the bank answered {status}"))),
            Self::Proxy(told) => told,
        };
        let text = |name: &str| told[name].as_str().unwrap_or_default();
        let mut lines = vec![format!("this is the proxy's own answer, not the bank's: {}", text("title"))];
        lines.push(format!("  what happened: {}", text("detail")));
        let kind = problem(text("type"));
        lines.extend(kind.map(|kind| format!("  what to do: {}", advice(kind, consent))));
        if let Some(url) = told["start_url"].as_str() {
            lines.push(format!("  the customer goes to: {url}"));
        }
        if let Some(seconds) = told["retry_after"].as_u64() {
            lines.push(format!("  when: in {seconds} s at the earliest"));
        }
        let passes = kind.is_some_and(|kind| kind.who_acts() == WhoActs::Retry) || told["retry"] == "yes";
        let said = lines.join("\n");
        Err(if passes { Failure::Unavailable(said) } else { Failure::Other(said) })
    }
}

async fn exchange(call: Call<'_>, bind: &Bind, json: bool) -> Result<Spoken, Failure> {
    let response = call.begin(bind).await.map_err(|error| match error {
        CallError::NotRunning(_) => Failure::Unavailable(format!("{error}: start it with `consentry run`")),
        CallError::Failed(..) => Failure::Unavailable(error.to_string()),
    })?;
    let (status, ours) = (response.status(), is_ours(response.headers()));
    if json || ours {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|error| Failure::Other(format!("the answer cannot be read: {error}")))?.to_bytes();
        let told = serde_json::from_slice::<Value>(&body).ok();
        if json {
            out::say_json(&as_json(status, &head.headers, &body, told.as_ref(), ours));
        } else {
            print_head(status, &head.headers);
            print(&body)?;
            end_line(&body);
        }
        return Ok(if ours { Spoken::Proxy(told.unwrap_or_default()) } else { Spoken::Bank(status) });
    }
    print_head(status, response.headers());
    stream(response).await?;
    Ok(Spoken::Bank(status))
}

/// More than this is not kept in memory.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Whether the proxy speaks for itself (RFC 9209): the bank's answers never carry `error`.
fn is_ours(headers: &HeaderMap) -> bool {
    let told = headers.get_all("proxy-status").iter().filter_map(|line| line.to_str().ok());
    let problem = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
    problem && told.into_iter().any(|line| line.starts_with("consentry; error="))
}

fn print_head(status: StatusCode, headers: &HeaderMap) {
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    let lines: Vec<_> = headers.iter().map(line).collect();
    out::remark(&format!("{status}\n{}\n\n", lines.join("\n")));
}

async fn stream(response: Response<Incoming>) -> Result<(), Failure> {
    let (mut body, mut last) = (response.into_body(), Bytes::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Other(format!("the answer broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            print(&data)?;
            last = data;
        }
    }
    end_line(&last);
    Ok(())
}

fn print(data: &[u8]) -> Result<(), Failure> {
    let mut out = stdout().lock();
    let written = out.write_all(data).and_then(|()| out.flush());
    written.map_err(|error| Failure::Other(format!("the answer cannot be written: {error}")))
}

/// The terminal's next line begins at its beginning.
fn end_line(last: &[u8]) {
    if stdout().is_terminal() && !last.ends_with(b"\n") {
        out::say("");
    }
}

fn as_json(status: StatusCode, headers: &HeaderMap, body: &[u8], told: Option<&Value>, ours: bool) -> Value {
    let mut all = Map::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        all.insert(name.as_str().to_owned(), values.collect::<Vec<_>>().join(", ").into());
    }
    let text = || Value::String(String::from_utf8_lossy(body).into_owned());
    let from = if ours { "consentry" } else { "bank" };
    json!({ "status": status.as_u16(), "from": from, "headers": all, "body": told.cloned().unwrap_or_else(text) })
}

/// The path that the proxy serves a target under.
fn local_path(target: &str, proxy: &ProxySettings) -> Result<String, Failure> {
    if target.starts_with('/') {
        let fits = !target.starts_with("//") && target.parse::<Uri>().is_ok();
        return if fits { Ok(target.to_owned()) } else { Err(Failure::Usage(format!("{target} is no path"))) };
    }
    let own = format!("http://{}", proxy.bind);
    if let Some(path) = target.strip_prefix(&own).filter(|path| path.starts_with('/')) {
        return Ok(path.to_owned());
    }
    let mut apis: Vec<_> = proxy.apis.iter().collect();
    apis.sort_by_key(|api| std::cmp::Reverse(api.upstream.path().len()));
    let under = apis.into_iter().find_map(|api| {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(target).ok()?);
        let fate = rewrite(&mut headers, &api.upstream, &api.prefix);
        (fate == LocationFate::Rewritten).then(|| headers.get(LOCATION)?.to_str().ok().map(str::to_owned))?
    });
    under.ok_or_else(|| {
        let known: Vec<_> =
            proxy.apis.iter().map(|api| format!("/{}", api.prefix.as_str().trim_start_matches('/'))).collect();
        let known = known.join(", ");
        Failure::Usage(format!("{target} is under no API of the configuration; their paths begin with {known}"))
    })
}

fn lines(lines: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let malformed = || Failure::Usage(format!("-H {line:?}: it is not `Name: value`"));
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| malformed())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| malformed())?);
    }
    Ok(headers)
}

fn body(data: &str) -> Result<Bytes, Failure> {
    let Some(name) = data.strip_prefix('@') else { return Ok(Bytes::copy_from_slice(data.as_bytes())) };
    let (mut bytes, most) = (Vec::new(), MOST_BYTES as u64 + 1);
    let read = if name == "-" {
        stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        File::open(Path::new(name)).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::Other(format!("{name} cannot be read: {error}")))?;
    if bytes.len() > MOST_BYTES {
        return Err(Failure::Other(format!("{name} is larger than 4 MiB")));
    }
    Ok(Bytes::from(bytes))
}
