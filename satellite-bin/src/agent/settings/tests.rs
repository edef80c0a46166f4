#![allow(clippy::unwrap_used)]
use std::{path::Path, time::Duration};

use log::LevelFilter;
use satellite_core::{
    oci::{Platform, PlatformSet},
    remote::Secret,
};
use serde_json::{Value, json};

use super::{
    resolve::{Resolved, World, resolve},
    *,
};
use crate::runtimes::Kind;

fn flags() -> Flags {
    Flags { ground_control_url: Some("https://ground.example".into()), ..Flags::default() }
}

fn with(document: &Value, flags: &Flags) -> Result<Resolved, Vec<Problem>> {
    let env = |name: &str| (name == "HARBOR_REGISTRY_URL").then(|| "https://harbor.env".to_string());
    let exists = |path: &Path| path.starts_with("/there");
    let world = World { env: &env, exists: &exists, dir: Path::new("/etc/satellite") };
    resolve(document, Source::Remote, flags, &world)
}

fn good(document: &Value) -> Resolved {
    with(document, &flags()).unwrap()
}

fn fields(document: &Value) -> Vec<String> {
    with(document, &flags()).unwrap_err().into_iter().map(|p| p.field).collect()
}

#[test]
fn nothing_but_ground_control_is_needed() {
    let Resolved { settings, warnings, .. } = good(&Value::Null);
    assert_eq!(settings.replicate.to_string(), "@every 00h00m30s");
    assert_eq!((settings.log_level, settings.encrypt), (LevelFilter::Info, true));
    let RegistryMode::Embedded(registry) = settings.registry else { panic!() };
    assert_eq!(registry.listen.to_string(), "127.0.0.1:8585");
    assert_eq!(registry.data_dir, Path::new("/etc/satellite/zot"));
    assert_eq!(warnings, Vec::<String>::new());
    let problems = with(&json!({}), &Flags::default()).unwrap_err();
    assert_eq!(problems[0].field, "--ground-control-url");
    let only = Flags { fallback_only: Some(Switch(Some(true))), ..Flags::default() };
    assert!(with(&json!({}), &only).is_ok());
}

#[test]
fn flags_go_before_environment_before_file_before_default() {
    let document = json!({"app_config": {
        "ground_control_url": "https://other.example", "harbor_registry_url": "https://harbor.file",
        "use_unsecure": true, "log_level": "WARN", "local_registry": {"password": "hush"},
    }});
    let flags = Flags {
        harbor_registry_url: Some("https://harbor.env".into()),
        use_unsecure: Some(Switch(Some(false))),
        byo_registry: Some(Switch(None)),
        registry_url: Some(String::new()),
        ..flags()
    };
    let Resolved { settings, shown, .. } = with(&document, &flags).unwrap();
    assert_eq!(settings.ground_control.as_str(), "https://ground.example/");
    assert_eq!((settings.use_unsecure, settings.log_level), (false, LevelFilter::Warn));
    let source = |field: &str| shown.iter().find(|s| s.field == field).map(|s| s.source);
    for (field, expected) in [
        ("app_config.ground_control_url", Source::Flag),
        ("app_config.harbor_registry_url", Source::Env),
        ("app_config.use_unsecure", Source::Flag),
        ("app_config.log_level", Source::Remote),
        ("app_config.bring_own_registry", Source::Default),
    ] {
        assert_eq!(source(field), Some(expected), "{field}");
    }
}

#[test]
fn a_registry_of_ones_own_may_come_from_flags_alone_and_its_password_is_not_shown() {
    let flags = Flags {
        byo_registry: Some(Switch(Some(true))),
        registry_url: Some("http://10.0.0.9:5000".into()),
        registry_username: Some("edge".into()),
        registry_password: Some(Secret::new("hush-hush")),
        ..flags()
    };
    let resolved = with(&json!({}), &flags).unwrap();
    assert!(!format!("{resolved:?}").contains("hush-hush"));
    let RegistryMode::Own(own) = resolved.settings.registry else { panic!() };
    assert_eq!((own.url.as_str(), own.password.unwrap().expose()), ("http://10.0.0.9:5000/", "hush-hush"));
    let without = Flags { registry_url: None, ..flags };
    let problems = with(&json!({}), &without).unwrap_err();
    assert_eq!(problems[0].field, "app_config.local_registry.url");
}

#[test]
fn of_zot_config_storage_address_log_and_collection_mean_ours() {
    let document = json!({"zot_config": {
        "distSpecVersion": "1.1.0",
        "storage": {"rootDirectory": "./zot", "gcInterval": "24h", "gcDelay": "2h30m", "dedupe": true},
        "http": {"address": "0.0.0.0", "port": "5050", "auth": {"htpasswd": {"path": "/x"}}},
        "log": {"level": "debug"},
        "extensions": {"search": {"enable": true}},
    }});
    let Resolved { settings, warnings, .. } = good(&document);
    let expected = Embedded {
        listen: "0.0.0.0:5050".parse().unwrap(),
        data_dir: "/etc/satellite/zot".into(),
        gc_interval: Some(Duration::from_secs(86_400)),
        gc_delay: Duration::from_secs(9000),
    };
    assert_eq!(settings.registry, RegistryMode::Embedded(expected));
    assert_eq!(settings.log_level, LevelFilter::Debug);
    assert_eq!(
        warnings,
        ["of zot_config this has no meaning here, and is kept: extensions, http.auth, storage.dedupe"]
    );
    let off = json!({"zot_config": {"storage": {"gc": false}, "http": {"port": "5050"}}});
    let RegistryMode::Embedded(off) = good(&off).settings.registry else { panic!() };
    assert_eq!((off.gc_interval, off.listen.to_string().as_str()), (None, "127.0.0.1:8585"));
    let bad = json!({"zot_config": {"http": {"address": "eth0", "port": "5050"}}});
    assert_eq!(fields(&bad), ["zot_config.http.address"]);
}

#[test]
fn what_the_reference_only_warns_of_is_warned_of() {
    let document = json!({"app_config": {
        "log_level": "loud", "heartbeat_interval": "often",
        "registry_fallback": {"enabled": true, "registries": ["quay.io", " ", "a b"], "runtimes": ["k3s", "rkt"]},
    }});
    let Resolved { settings, warnings, .. } = good(&document);
    assert_eq!(
        (settings.log_level, settings.heartbeat.to_string().as_str()),
        (LevelFilter::Info, "@every 00h00m30s")
    );
    let fallback = Fallback::Registries { registries: vec!["quay.io".into()], runtimes: vec![Kind::K3s] };
    assert_eq!(settings.fallback, fallback);
    for part in ["log_level", "heartbeat_interval", "\"a b\"", "\"rkt\""] {
        assert!(warnings.iter().any(|w| w.contains(part)), "{part}: {warnings:?}");
    }
    let off = Flags { no_registry_fallback: Some(Switch(Some(true))), ..flags() };
    assert_eq!(with(&document, &off).unwrap().settings.fallback, Fallback::Off);
    let mirrors = Flags { mirrors: vec!["docker:true".into()], ..flags() };
    assert_eq!(with(&Value::Null, &mirrors).unwrap().settings.fallback, Fallback::Mirrors(mirrors.mirrors));
    let bad = Flags { mirrors: vec!["docker".into()], ..flags() };
    assert_eq!(with(&Value::Null, &bad).unwrap_err()[0].field, "--mirrors");
}

#[test]
fn certificates_are_files_that_are_there_or_with_spiffe_that_will_be() {
    let tls = |cert: &str| json!({"app_config": {"tls": {"cert_file": cert, "key_file": "/there/k", "ca_file": "/gone"}}});
    assert_eq!(fields(&tls("/there/c")), ["app_config.tls.ca_file"]);
    let mut document = tls("/gone/svid");
    document["app_config"]["spiffe"] = json!({"enabled": true});
    let address = good(&document).settings.address();
    assert_eq!(address.identity, Some(("/gone/svid".into(), "/there/k".into())));
    assert_eq!(address.ca, Some("/gone".into()));
    assert_eq!(
        fields(&json!({"app_config": {"spiffe": {"enabled": true}}})),
        ["app_config.spiffe.cert_file"]
    );
}

#[test]
fn the_satellites_own_object_is_read_whole() {
    let document = json!({"app_config": {"satellite": {
        "limit_rate": "2MiB/s", "capacity": 1_000_000, "platforms": ["linux/arm64", "linux/arm/v7"],
        "pull_through": {"rules": ["docker.io/library/*"], "default_upstream": "docker.io", "revalidate": "1h"},
        "names": ["docker.io=dockerhub"], "concurrency": 8, "referrers": false,
        "windows": [{"days": ["mon", "Friday"], "from": "22:00", "to": "6:30", "zone": "Europe/Berlin"}],
        "scrub": {"rate": "0", "interval": "30d"},
    }}});
    let edge = good(&document).settings.edge;
    assert_eq!((edge.limit_rate, edge.capacity, edge.concurrency), (Some(2 << 20), Some(1_000_000), 8));
    let arm: Vec<Platform> = ["linux/arm64", "linux/arm/v7"].iter().map(|p| p.parse().unwrap()).collect();
    assert_eq!(edge.platforms, PlatformSet::Some(arm));
    assert_eq!(edge.pull_through.rules[0].to_string(), "docker.io/library/*");
    assert_eq!(edge.names[0].to_string(), "docker.io=dockerhub");
    assert_eq!(edge.windows[0].to, jiff::civil::time(6, 30, 0, 0));
    assert_eq!(edge.windows[0].days, [jiff::civil::Weekday::Monday, jiff::civil::Weekday::Friday]);
    assert_eq!((edge.scrub.rate, edge.scrub.interval), (0, Duration::from_secs(30 * 86_400)));
}

#[test]
fn an_unknown_field_of_ours_is_refused_with_a_suggestion_and_elsewhere_kept() {
    let document = json!({"app_config": {"satellite": {
        "limitrate": 5, "scrub": {"rates": 1, "interval": "x"}, "windows": [{"from": "25:00", "too": "1:00"}],
        "names": ["docker.io=a", "docker.io=b"], "pull_through": {"rules": ["library/x"], "default_upstream": "q.io"},
        "concurrency": 0, "capacity": -1, "platforms": [], "zzz": 1,
    }}});
    let problems = with(&document, &flags()).unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for part in [
        "app_config.satellite.limitrate: there is no such field: did you mean limit_rate?",
        "app_config.satellite.scrub.rates: there is no such field: did you mean rate?",
        "app_config.satellite.scrub.interval: \"x\" is not a time",
        "app_config.satellite.windows[0].from: must be a time of day",
        "app_config.satellite.windows[0].too: there is no such field: did you mean to?",
        "app_config.satellite.windows[0].to: must be set",
        "app_config.satellite.names: two rules for docker.io",
        "app_config.satellite.pull_through.rules[0]: ",
        "app_config.satellite.concurrency: must be 1 to 64",
        "app_config.satellite.capacity: must be whole bytes",
        "app_config.satellite.platforms: must be \"all\"",
        "app_config.satellite.zzz: there is no such field: known are limit_rate, ",
    ] {
        assert!(text.iter().any(|t| t.starts_with(part)), "{part}: {text:#?}");
    }
    assert_eq!(text.len(), 12);
    assert!(with(&json!({"app_config": {"later": {"x": 1}}, "y": 2}), &flags()).is_ok());
}

#[test]
fn differences_are_named() {
    let before = good(&Value::Null).settings;
    let document = json!({"app_config": {"log_level": "error", "satellite": {"limit_rate": 5}}});
    let after = good(&document).settings;
    assert_eq!(after.differences(&before), ["log_level", "satellite"]);
    assert_eq!(before.differences(&before), Vec::<&str>::new());
}
