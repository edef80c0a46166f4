//! `zot_config`: what of another registry's configuration means something for ours.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use satellite_core::fleet::Interval;
use serde_json::Value;

use super::{effective::Embedded, resolve::View};

/// Of which a change of the value means something here, and what is taken without a word.
const KNOWN: &[&str] = &[
    "distSpecVersion",
    "distspecversion",
    "storage.rootDirectory",
    "storage.gc",
    "storage.gcInterval",
    "storage.gcDelay",
    "http.address",
    "http.port",
    "log.level",
];
const PORT: u16 = 8585;
const GC_INTERVAL: Duration = Duration::from_secs(6 * 3600);
const GC_DELAY: Duration = Duration::from_secs(3600);

/// The registry in this process. Without an address it listens on this machine alone; without address or port both are
/// the default, as in the reference.
pub(super) fn embedded(view: &mut View<'_>, dir: &Path) -> Option<Embedded> {
    let without_meaning = foreign(view.raw("zot_config"));
    if !without_meaning.is_empty() {
        view.warn(format!(
            "of zot_config this has no meaning here, and is kept: {}",
            without_meaning.join(", ")
        ));
    }
    let root = view.text("zot_config.storage.rootDirectory", Some("zot")).unwrap_or_default();
    let listen = listen(view);
    let gc = view.flag("zot_config.storage.gc", true);
    let gc_interval = duration(view, "zot_config.storage.gcInterval", "6h", GC_INTERVAL);
    let gc_delay = duration(view, "zot_config.storage.gcDelay", "1h", GC_DELAY);
    let data_dir = dir.join(root.strip_prefix("./").unwrap_or(&root));
    Some(Embedded { listen: listen?, data_dir, gc_interval: gc.then_some(gc_interval), gc_delay })
}

fn listen(view: &mut View<'_>) -> Option<SocketAddr> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let address = view.text("zot_config.http.address", None);
    let port = view.text("zot_config.http.port", None);
    let (Some(address), Some(port)) = (address, port) else { return Some(loopback) };
    let ip = match address.trim_matches(['[', ']']) {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        text => text.parse(),
    };
    match (ip, port.parse()) {
        (Ok(ip), Ok(port)) => Some(SocketAddr::new(ip, port)),
        (Err(_), _) => {
            view.wrong(
                "zot_config.http.address",
                "must be an address of this machine, as in 127.0.0.1 or 0.0.0.0",
            );
            None
        }
        (_, Err(_)) => {
            view.wrong("zot_config.http.port", "must be a port as a text, as in \"8585\"");
            None
        }
    }
}

/// A duration as Go writes it.
fn duration(view: &mut View<'_>, path: &str, shown: &str, default: Duration) -> Duration {
    let text = view.text(path, Some(shown)).unwrap_or_default();
    match format!("@every {text}").parse::<Interval>() {
        Ok(interval) => interval.duration(),
        Err(_) => {
            view.warn(format!("{path}: must be a time of whole seconds, as in 1h30m; {shown} is taken"));
            default
        }
    }
}

/// Fields without meaning here, two levels deep.
fn foreign(zot: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in zot.and_then(Value::as_object).into_iter().flatten() {
        let inner = KNOWN.iter().any(|k| k.split_once('.').is_some_and(|(parent, _)| parent == name));
        match value.as_object().filter(|_| inner) {
            Some(map) => {
                let paths = map.keys().map(|key| format!("{name}.{key}"));
                found.extend(paths.filter(|path| !KNOWN.contains(&path.as_str())));
            }
            None if KNOWN.contains(&name.as_str()) || value.is_null() => {}
            None => found.push(name.clone()),
        }
    }
    for name in &mut found {
        if name.len() > 60 {
            *name = name.chars().take(60).collect();
        }
    }
    found.truncate(20);
    found
}
