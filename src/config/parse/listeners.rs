//! Where is listened, and that no two listeners are in each other's way.

use std::net::IpAddr;

use super::{Sources, asking};
use crate::admin::settings::{AdminSettings, HealthSettings};
use crate::callback::settings::CallbackSettings;
use crate::config::fault::{At, Faulted};
use crate::config::raw::{RawAdmin, RawConfig};
use crate::consent::settings::AskSettings;
use crate::http::host::HostNames;
use crate::net::serve::Bind;
use crate::words::secrets::AdminKey;

/// The listeners; `None` and `Faulted` after a fault.
pub(super) struct Listeners {
    pub(super) proxy: Option<Bind>,
    pub(super) health: Option<HealthSettings>,
    pub(super) admin: Result<Option<AdminSettings>, Faulted>,
    pub(super) callback: Result<Option<(CallbackSettings, AskSettings)>, Faulted>,
}

/// Who may reach a listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Processes of this machine.
    ThisMachine,
    /// Anybody.
    Anybody,
}

pub(super) fn parse(raw: &RawConfig, at: &At<'_>, sources: &Sources<'_>) -> Listeners {
    let proxy_at = at.key("proxy").key("listen");
    let health_at = at.key("health").key("listen");
    let admin_at = at.key("admin").key("listen");
    let callback_at = at.key("callback").key("listen");

    let proxy = raw.proxy.as_ref().and_then(|raw| raw.listen.as_deref());
    let proxy = bind(proxy.unwrap_or("127.0.0.1:8080"), Reach::ThisMachine, &proxy_at);
    let health = raw.health.as_ref().and_then(|raw| raw.listen.as_deref());
    let health = bind(health.unwrap_or("127.0.0.1:9091"), Reach::Anybody, &health_at);
    let admin = raw.admin.as_ref().map(|raw| admin(raw, &at.key("admin"), sources));

    let callback = raw.callback.as_ref().map(|raw| asking::callback(raw, &at.key("callback")));

    let admin_bind = admin.as_ref().and_then(|admin| admin.as_ref()).map(|admin| &admin.bind);
    let callback_bind = callback.as_ref().and_then(|callback| callback.as_ref()).map(|(callback, _)| &callback.bind);
    let known = [
        (proxy.as_ref(), &proxy_at),
        (health.as_ref(), &health_at),
        (admin_bind, &admin_at),
        (callback_bind, &callback_at),
    ];
    for (nth, (one, one_at)) in known.iter().enumerate() {
        for (other, other_at) in known.iter().take(nth) {
            if let (Some(one), Some(other)) = (one, other)
                && overlap(one, other)
            {
                one_at.fault(format_args!("{} is already listening on {other}", other_at.path()));
            }
        }
    }
    Listeners {
        proxy,
        health: health.map(|bind| HealthSettings { bind }),
        admin: admin.map(|admin| admin.ok_or(Faulted)).transpose(),
        callback: callback.map(|callback| callback.ok_or(Faulted)).transpose(),
    }
}

/// Host names as they may appear in `Host`.
pub(super) fn hosts(names: Option<&Vec<String>>, at: &At<'_>) -> Vec<String> {
    let names = names.map(Vec::as_slice).unwrap_or_default();
    for (nth, name) in names.iter().enumerate() {
        at.index(nth).take(HostNames::parse([name.as_str()]));
    }
    names.to_vec()
}

fn admin(raw: &RawAdmin, at: &At<'_>, sources: &Sources<'_>) -> Option<AdminSettings> {
    let bind = bind(raw.listen.as_deref().unwrap_or("127.0.0.1:9090"), Reach::ThisMachine, &at.key("listen"));
    let hosts = hosts(raw.hosts.as_ref(), &at.key("hosts"));
    let key_at = at.key("key");
    let key = match &raw.key {
        None => {
            if matches!(bind, Some(Bind::Tcp(_))) {
                at.warn("without a key nobody can change anything here: set key, or listen on a unix socket");
            }
            Some(None)
        }
        Some(source) => sources.secret(Some(source), &key_at).and_then(|key| {
            if key.len() < 16 {
                key_at.fault("it is shorter than 16 characters; consentry keygen makes a good one");
                return None;
            }
            Some(Some(AdminKey::new(key)))
        }),
    };
    Some(AdminSettings { bind: bind?, hosts, key: key? })
}

pub(super) fn bind(text: &str, reach: Reach, at: &At<'_>) -> Option<Bind> {
    let bind: Bind = at.take(text.parse())?;
    match &bind {
        Bind::Tcp(address) if reach == Reach::ThisMachine && !address.ip().is_loopback() => {
            at.fault(
                "this listener cannot tell who calls it, so it may be reached from this machine alone: \
                 use 127.0.0.1, [::1] or unix:/path",
            );
            None
        }
        Bind::Tcp(_) | Bind::Unix(_) => Some(bind),
    }
}

/// Whether one of the two could not be bound while the other is. Port 0 is a free one each time.
fn overlap(one: &Bind, other: &Bind) -> bool {
    match (one, other) {
        (Bind::Tcp(one), Bind::Tcp(other)) => {
            // [::] takes IPv4 along on most systems.
            let takes_all = |ip: IpAddr, of: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || of.is_ipv4());
            let (one_ip, other_ip) = (one.ip(), other.ip());
            let same_ip = one_ip == other_ip || takes_all(one_ip, other_ip) || takes_all(other_ip, one_ip);
            one.port() != 0 && one.port() == other.port() && same_ip
        }
        (Bind::Unix(one), Bind::Unix(other)) => one == other,
        (Bind::Tcp(_), Bind::Unix(_)) | (Bind::Unix(_), Bind::Tcp(_)) => false,
    }
}
