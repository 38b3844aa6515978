//! What each step on a provider's record tells its script, and what the answer means.
//!
//! A provider's record lives in another slot of a cluster than the consents', so no script touches both.

use std::time::Duration;

use super::durability::Durability;
use super::outcomes::unexpected;
use super::scripts::{Arguments, LuaScript, Reply};
use super::{Lane, RedisStore};
use crate::store::contract::{
    BreakerClass, Freeze, Lesson, Opened, PermitAnswer, PermitAsk, ProviderStanding, Report, Reported, Stage,
    StoreError, Verdict,
};
use crate::store::keys::short_name;
use crate::store::provider::ProviderRecord;
use crate::store::steps::span;
use crate::words::ids::{AttemptId, ProviderId};

pub(super) async fn permits(
    store: &RedisStore,
    provider: &ProviderId,
    ask: &PermitAsk,
) -> Result<PermitAnswer, StoreError> {
    let script = &store.0.scripts.permits;
    let mut arguments = Arguments::default()
        .flag(ask.waiting)
        .number(ask.limits.in_flight.max(1).into())
        .number(ask.limits.per_second.max(1).into())
        .number(span(ask.life));
    for wanted in &ask.wanted {
        arguments = arguments.text(wanted.permit.as_str()).text(&short_name(&wanted.key));
    }
    let (reply, record, now) = step(store, script, provider, arguments, false).await?;
    let wait = Duration::from_millis(reply.first);
    match reply.word.as_str() {
        "GRANTED" => {
            let at = |number| usize::try_from(number).unwrap_or(usize::MAX);
            Ok(PermitAnswer::Granted(at(reply.first)..at(reply.first.saturating_add(reply.second))))
        }
        "FULL" => Ok(PermitAnswer::Full(wait)),
        "OPEN" => {
            let class = record.class.unwrap_or(BreakerClass::Unavailable);
            Ok(PermitAnswer::Open(Opened { wait, class, why: record.why }))
        }
        "FROZEN" => record.frozen_at(now).map(PermitAnswer::Frozen).ok_or_else(|| unexpected(script)),
        _ => Err(unexpected(script)),
    }
}

pub(super) async fn renew(
    store: &RedisStore,
    provider: &ProviderId,
    permit: &AttemptId,
    life: Duration,
) -> Result<(), StoreError> {
    let arguments = Arguments::default().text(permit.as_str()).number(span(life));
    step(store, &store.0.scripts.renew_permit, provider, arguments, false).await.map(drop)
}

pub(super) async fn report(store: &RedisStore, provider: &ProviderId, report: &Report) -> Result<Reported, StoreError> {
    let script = &store.0.scripts.report;
    let arguments =
        Arguments::default().text(report.permit.as_str()).text(&short_name(&report.key)).number(report.spread.into());
    let arguments = match &report.lesson {
        Lesson::Unused => arguments.text("unused"),
        Lesson::Neutral => arguments.text("neutral"),
        Lesson::Succeeded => arguments.text("succeeded"),
        Lesson::Failed(class, why) => arguments.text("failed").text(class.as_str()).text(why),
        Lesson::Held(wait) => arguments.text("held").number(span(*wait)),
        Lesson::Refused(refusal) => {
            arguments.text("refused").text(&refusal.version.to_string()).number(refusal.fence).flag(refusal.probe)
        }
    };
    let (reply, record, _) = step(store, script, provider, arguments, false).await?;
    let verdict = match reply.word.as_str() {
        "NOTED" => Verdict::Noted,
        "SUSPEND" => Verdict::Suspend,
        "SPARE" => Verdict::Spare,
        _ => return Err(unexpected(script)),
    };
    let pardoned = match reply.first {
        1 => record.in_stage(Stage::Spared),
        2 => record.in_stage(Stage::Retry),
        _ => Vec::new(),
    };
    Ok(Reported { verdict, pardoned })
}

pub(super) async fn freeze(
    store: &RedisStore,
    provider: &ProviderId,
    order: Option<&Freeze>,
) -> Result<ProviderStanding, StoreError> {
    let arguments = match order {
        None => Arguments::default().text("").text("").text("").text(""),
        Some(order) => Arguments::default()
            .text(order.reason.as_str())
            .text(&order.by)
            .text(order.why.as_deref().unwrap_or_default())
            .text(order.over.as_deref().unwrap_or_default()),
    };
    let (_, record, now) = step(store, &store.0.scripts.freeze, provider, arguments, true).await?;
    Ok(record.standing(now))
}

pub(super) async fn standing(store: &RedisStore, provider: &ProviderId) -> Result<ProviderStanding, StoreError> {
    let script = &store.0.scripts.standing;
    let (_, record, now) = step(store, script, provider, Arguments::default(), false).await?;
    Ok(record.standing(now))
}

/// Runs a step; a `lasting` one has an outcome only once as many replicas as required have it.
async fn step(
    store: &RedisStore,
    script: &LuaScript,
    provider: &ProviderId,
    arguments: Arguments,
    lasting: bool,
) -> Result<(Reply, ProviderRecord, u64), StoreError> {
    let durability = Some(store.0.durability).filter(|durability| lasting && durability.waits());
    let required = durability.map_or(0, Durability::required);
    let lane = if durability.is_some() { Lane::Outcomes } else { Lane::Steps };
    let keys = [store.0.keys.provider(provider)];
    let (value, acknowledged) = store.call_and_wait(lane, script, &keys, &arguments, durability).await?;
    let unreadable = |field: &str| {
        StoreError::Unreadable(format!("the field {field} of a provider's record is not what it has to be"))
    };
    let reply = Reply::parse(value, script)?.map_err(|field| unreadable(&field))?;
    if acknowledged < required {
        let text = format!("{acknowledged} of {required} required redis replicas acknowledged {} in time", script.name);
        return Err(StoreError::Unavailable(text));
    }
    let (record, now) = reply.provider().map_err(unreadable)?;
    Ok((reply, record, now))
}
