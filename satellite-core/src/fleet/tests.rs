#![allow(clippy::unwrap_used)]
use std::io::Read as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    artifact::{MAX_STATE, UnpackError, pack, unpack},
    config::{Severity, printed, problems},
    *,
};
use crate::oci::{Digest, Manifest, media_type};

/// The state that the reference's example carries, and the digest of its tar.
const STATE: &str = r#"{"states":["http://harbor/satellite/group-state/g1/state:latest"],"config":"http://harbor/satellite/config-state/c1/state:latest"}"#;
const DIFF_ID: &str = "sha256:fa5a9463d7806e65b11a6842b399e1e3db47bae1faaae85bdebf69b008ef0174";
const OURS: &str = "sha256:de245f2c667c03cc64d930e9e22f33f030dd8a2a1c2e0faae621fa4a8ba62706";
const CONFIG_DIGEST: &str = "sha256:d97f2050a39c346ed984b93eaef84e9b128440c38a09e7fb97a04a9672f93d96";

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_packed_state_has_the_references_tar_config_and_manifest() {
    let state = SatelliteState {
        states: vec![StateKind::Group.url("http://harbor", "g1").unwrap()],
        config: StateKind::Config.url("http://harbor", "c1").unwrap(),
    };
    assert_eq!(serde_json::to_string(&state).unwrap(), STATE);
    let packed = pack(STATE.as_bytes()).unwrap();
    assert_eq!(Digest::sha256(&gunzip(&packed.layer)).as_str(), DIFF_ID);
    // The config holds nothing but the tar's digest, so it is the reference's too.
    assert_eq!((packed.config.len(), Digest::sha256(&packed.config).as_str()), (233, CONFIG_DIGEST));
    let manifest = Manifest::parse(packed.manifest.clone(), Some(media_type::DOCKER_MANIFEST)).unwrap();
    assert_eq!(manifest.blobs.len(), 2);
    assert_eq!(manifest.blobs[0].digest.as_str(), CONFIG_DIGEST);
    assert_eq!(manifest.blobs[1].digest, Digest::sha256(&packed.layer));
    assert_eq!(packed.digest, Digest::sha256(&packed.manifest));
    // Go's gzip makes another layer of the same tar. With that one named, the manifest is the reference's.
    let theirs = "sha256:67f0690b72e86a095f7b9cc0aaba5cb94740267add0d596d7e39b458a04e68c9";
    let ours = format!(r#""size":{},"digest":"{}""#, packed.layer.len(), Digest::sha256(&packed.layer));
    let manifest = String::from_utf8(packed.manifest).unwrap();
    let manifest = manifest.replace(&ours, &format!(r#""size":173,"digest":"{theirs}""#));
    assert_eq!(
        Digest::sha256(manifest.as_bytes()).as_str(),
        "sha256:64a68f9e66533419a140f5d812028d05f694a69421929c401672647ddf955803"
    );
    // A change of this makes every state of every fleet look changed once.
    assert_eq!(packed.digest.as_str(), OURS);
}

#[test]
fn a_layer_gives_its_state_whatever_lies_beside_it() {
    let tar = tar_of(&[("etc/x", b"1"), ("artifacts.json", b"{}"), ("artifacts.json", b"second")]);
    assert_eq!(unpack(&tar).unwrap(), b"{}");
    assert_eq!(unpack(&gzip(&tar)).unwrap(), b"{}");
    let halves = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    assert_eq!(unpack(&halves).unwrap(), b"{}");
}

#[test]
fn layers_that_are_none_cut_or_bombs_are_refused() {
    let other = gzip(&tar_of(&[("etc/artifacts.json", b"{}"), ("artifacts.json/x", b"{}")]));
    assert!(matches!(unpack(&other), Err(UnpackError::Missing)));
    assert!(matches!(unpack(b""), Err(UnpackError::Missing)));
    assert!(matches!(unpack(&[0x55; 600]), Err(UnpackError::Read(_))));
    let packed = pack(&vec![b' '; 100_000]).unwrap();
    for cut in [5, 20, packed.layer.len() / 2] {
        assert!(matches!(unpack(&packed.layer[..cut]), Err(UnpackError::Read(_))), "{cut}");
    }
    let big = vec![0; MAX_STATE + 1];
    assert!(matches!(pack(&big), Err(UnpackError::TooLarge { .. })));
    assert!(matches!(unpack(&gzip(&tar_of(&[("artifacts.json", &big)]))), Err(UnpackError::TooLarge { .. })));
    let zeros = vec![0; 65 << 20];
    let bomb = gzip(&tar_of(&[("x", &zeros), ("artifacts.json", b"{}")]));
    assert!(bomb.len() < 1 << 20);
    assert!(matches!(unpack(&bomb), Err(UnpackError::TooLarge { .. })));
    let many: Vec<_> = (0..10_001).map(|_| ("x", &b""[..])).collect();
    assert!(matches!(unpack(&tar_of(&many)), Err(UnpackError::TooLarge { unit: "files", .. })));
}

#[test]
fn intervals_are_read_as_go_does_and_written_one_way() {
    for (text, written) in [
        ("@every 00h00m30s", "@every 00h00m30s"),
        ("@every 90s", "@every 00h01m30s"),
        ("@every 1m30s", "@every 00h01m30s"),
        ("@every 1.5h", "@every 01h30m00s"),
        ("@every .5m", "@every 00h00m30s"),
        ("@every +1m", "@every 00h01m00s"),
        ("@every 500ms500ms", "@every 00h00m01s"),
        ("@every 3s2h", "@every 02h00m03s"),
        ("@every 1000000µs", "@every 00h00m01s"),
        ("@every 100h", "@every 100h00m00s"),
    ] {
        assert_eq!(text.parse::<Interval>().unwrap().to_string(), written, "{text}");
    }
    for bad in [
        "",
        "30s",
        "@every",
        "@every ",
        "@every  30s",
        "@every 30",
        "@every 0",
        "@every 0s",
        "@every -30s",
        "@every 500ms",
        "@every 1.5s",
        "@every 1d",
        "@every s",
        "@every 1.2.3s",
        "@every .s",
        "@every 1s ",
        "@hourly",
        "*/5 * * * *",
        "@every 9999999999h",
        "@every 99999999999999999999999999999999999999999s",
        "@every 99999999999999999999999999999999.9h",
    ] {
        assert!(bad.parse::<Interval>().is_err(), "{bad}");
    }
}

#[test]
fn names_follow_the_grammars_of_the_reference_and_of_harbor() {
    for good in ["a", "0", "edge-01", "a.b_c", "a--b", "a.", &"n".repeat(255)] {
        assert!(good.parse::<Name>().is_ok(), "{good}");
    }
    for bad in ["", "A", ".a", "-a", "_a", "a/b", "a b", "ä", "a\n", &"n".repeat(256)] {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
    }
    for (name, good) in
        [("a.b-c_d", true), ("a--b", false), ("a.", false), ("-a", false), ("", false), ("A", false)]
    {
        assert_eq!(is_robot_name(name), good, "{name}");
    }
}

#[test]
fn states_have_their_repositories() {
    let repository = StateKind::Group.repository("g1").unwrap();
    assert_eq!(repository.as_str(), "satellite/group-state/g1/state");
    assert_eq!(StateKind::of_repository(repository.as_str()), Some((StateKind::Group, "g1")));
    for name in ["a/b", "", "..", "a.", "A", &"n".repeat(240)] {
        assert!(StateKind::Config.repository(name).is_err(), "{name}");
    }
    for other in ["satellite/x-state/a/state", "edge/app", "satellite/group-state//state", "satellite/state"]
    {
        assert_eq!(StateKind::of_repository(other), None, "{other}");
    }
}

#[test]
fn group_states_read_leniently_and_are_written_as_the_reference_does() {
    let text = r#"{"group":"g14","registry":"http://harbor","artifacts":[{"repository":"library/web","tag":["v1"],"labels":{"a":"b"},"type":"docker"}]}"#;
    let state: GroupState = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&state).unwrap(), text);
    let state: GroupState = serde_json::from_value(json!({
        "group": "g", "registry": null, "extra": 1,
        "artifacts": [{"repository": "b/c", "tag": null, "labels": null, "type": null, "digest": null, "deleted": null},
                      {"repository": "a/c", "deleted": true}, {"repository": "b/d"}]
    }))
    .unwrap();
    assert_eq!(state.projects(), ["b"]);
    assert!(serde_json::from_str::<GroupState>(r#"{"artifacts":[{"tag":"v1"}]}"#).is_err());
    assert_eq!(serde_json::to_string(&GroupState::default()).unwrap(), "{}");
}

#[test]
fn published_groups_are_what_the_references_satellite_can_read() {
    let state: GroupState = serde_json::from_value(json!({"group": "g", "registry": "elsewhere", "artifacts": [
        {"repository": "a/b", "labels": {"k": "v", "n": 1}}, {"repository": "a/c", "deleted": true},
        {"repository": "a/d", "labels": ["x", {"y": 1}]}, {"repository": "a/e", "labels": "z"}, {"repository": "a/f", "labels": {}}]}))
    .unwrap();
    let published = serde_json::to_value(state.for_publishing("http://harbor")).unwrap();
    assert_eq!(
        published,
        json!({"group": "g", "registry": "http://harbor", "artifacts": [
            {"repository": "a/b", "labels": ["k=v", "n=1"]}, {"repository": "a/d", "labels": ["x", "{\"y\":1}"]},
            {"repository": "a/e", "labels": ["z"]}, {"repository": "a/f"}]})
    );
}

#[test]
fn what_is_wrong_with_a_group_is_named() {
    let digest = Digest::sha256(b"").to_string();
    let good = |change: &dyn Fn(&mut Value)| {
        let mut value =
            json!({"group": "g", "artifacts": [{"repository": "edge/app", "tag": ["v1"], "digest": digest}]});
        change(&mut value);
        serde_json::from_value::<GroupState>(value).unwrap().check()
    };
    assert_eq!(good(&|_| ()), Ok(()));
    assert_eq!(good(&|v| v["artifacts"] = json!([])), Ok(()));
    let table: &[(&str, Value, &str)] = &[
        ("/group", json!(""), "group"),
        ("/group", json!("a/b"), "group"),
        ("/group", json!("a."), "group"),
        ("/artifacts/0/repository", json!("web"), "artifacts[0].repository"),
        ("/artifacts/0/repository", json!("/web"), "artifacts[0].repository"),
        ("/artifacts/0/repository", json!("Edge/web"), "artifacts[0].repository"),
        ("/artifacts/0/tag/0", json!("-x"), "artifacts[0].tag[0]"),
        ("/artifacts/0/digest", json!("sha256:12"), "artifacts[0].digest"),
    ];
    for (pointer, value, field) in table {
        let error = good(&|v| *v.pointer_mut(pointer).unwrap() = value.clone()).unwrap_err();
        assert_eq!(error.field, *field, "{value}");
        assert!(error.to_string().starts_with(field));
    }
}

#[test]
fn heartbeats_of_the_reference_are_read() {
    let sync: Sync = serde_json::from_value(json!({
        "name": "sat1", "activity": "x", "state_report_interval": "@every 00h00m30s", "cpu_percent": 12.5,
        "memory_used_bytes": 1000, "cached_images": null, "latest_state_digest": "", "nonsense": []
    }))
    .unwrap();
    assert_eq!((sync.name.as_str(), sync.memory_used_bytes, sync.cached_images.len()), ("sat1", 1000, 0));
    for bad in [json!({"memory_used_bytes": -1}), json!({"cpu_percent": "1"}), json!([1])] {
        assert!(serde_json::from_value::<Sync>(bad).is_err());
    }
    assert_eq!(SyncAnswer::from_body(b" \n").unwrap(), None);
    assert_eq!(SyncAnswer::from_body(b"{}").unwrap(), Some(SyncAnswer::default()));
    assert!(SyncAnswer::from_body(b"<html>").is_err());
}

#[test]
fn registrations_show_no_password() {
    let ztr: Ztr = serde_json::from_value(
        json!({"auth": {"url": "http://harbor", "username": "robot$sat1", "password": "hidden"},
        "state": "http://harbor/satellite/satellite-state/sat1/state:latest"}),
    )
    .unwrap();
    assert!(ztr.is_whole());
    assert!(!format!("{ztr:?}").contains("hidden"));
    assert!(!Ztr { state: String::new(), ..ztr }.is_whole());
}

#[test]
fn configurations_are_printed_as_the_reference_does() {
    assert_eq!(
        printed(&json!({})).to_string().parse::<Value>().unwrap(),
        json!({"state_config":{"auth":{}},"app_config":{"metrics":{},"local_registry":{},"tls":{},"spiffe":{},"registry_fallback":{},
            "direct_delivery":{},"audit":{"syslog":{"file":{}},"otel":{}}}})
    );
    let config = json!({"app_config": {"log_level": "", "use_unsecure": false, "encrypt_config": true, "unknown": "",
        "registry_fallback": {"registries": ["docker.io"], "runtimes": []}, "tls": null,
        "audit": {"syslog": {"enabled": false, "file": {"max_backups": 0, "compress": false}}}},
        "zot_config": null, "more": {}});
    let out = printed(&config);
    assert_eq!(out["app_config"]["registry_fallback"], json!({"registries": ["docker.io"]}));
    assert_eq!(
        out["app_config"]["audit"]["syslog"],
        json!({"enabled": false, "file": {"max_backups": 0, "compress": false}})
    );
    assert_eq!(
        (&out["app_config"]["unknown"], &out["app_config"]["encrypt_config"]),
        (&json!(""), &json!(true))
    );
    assert!(out["app_config"].get("use_unsecure").is_none() && out.get("zot_config").is_none());
    assert_eq!((&out["more"], &out["app_config"]["tls"]), (&json!({}), &json!({})));
    assert_eq!(printed(&out), out);
}

#[test]
fn what_is_wrong_with_a_configuration_is_named() {
    use Severity::{Ignored, Refused, Type};
    for good in [
        json!({}),
        Value::Null,
        json!({"app_config": {"log_level": "WARN", "heartbeat_interval": "@every 30s", "new": 1}, "zot_config": {"http": {"port": "8585"}}}),
        json!({"app_config": {"ground_control_url": "https://gc.example:9090", "log_level": null}}),
    ] {
        assert_eq!(problems(&good), [], "{good}");
    }
    let table = [
        (json!([]), "config", Type),
        (json!({"app_config": "x"}), "app_config", Type),
        (json!({"app_config": {"use_unsecure": "yes"}}), "app_config.use_unsecure", Type),
        (json!({"app_config": {"log_level": "loud"}}), "app_config.log_level", Ignored),
        (json!({"app_config": {"heartbeat_interval": "x"}}), "app_config.heartbeat_interval", Ignored),
        (json!({"app_config": {"heartbeat_interval": 30}}), "app_config.heartbeat_interval", Type),
        (json!({"app_config": {"ground_control_url": "::"}}), "app_config.ground_control_url", Refused),
        (json!({"app_config": {"ground_control_url": "ftp://x"}}), "app_config.ground_control_url", Refused),
        (json!({"app_config": {"bring_own_registry": true}}), "app_config.local_registry.url", Refused),
        (json!({"app_config": {"tls": {"cert_file": "/a"}}}), "app_config.tls.key_file", Refused),
        (json!({"app_config": {"tls": {"key_file": "/a"}}}), "app_config.tls.cert_file", Refused),
        (
            json!({"app_config": {"registry_fallback": {"runtimes": ["lxc"]}}}),
            "app_config.registry_fallback.runtimes",
            Ignored,
        ),
        (
            json!({"app_config": {"registry_fallback": {"registries": [1]}}}),
            "app_config.registry_fallback.registries",
            Type,
        ),
        (
            json!({"app_config": {"audit": {"syslog": {"file": {"max_size_mb": -1}}}}}),
            "app_config.audit.syslog.file.max_size_mb",
            Ignored,
        ),
        (
            json!({"app_config": {"audit": {"syslog": {"target": "x"}}}}),
            "app_config.audit.syslog.target",
            Ignored,
        ),
        (
            json!({"app_config": {"audit": {"enabled": true, "otel": {"enabled": true}}}}),
            "app_config.audit.otel.endpoint",
            Refused,
        ),
        (json!({"zot_config": {"http": {"port": 8585}}}), "zot_config.http.port", Type),
        (json!({"zot_config": {"http": {"port": "0"}}}), "zot_config.http.port", Refused),
        (json!({"state_config": {"auth": {"password": ["hidden"]}}}), "state_config.auth.password", Type),
    ];
    for (config, field, severity) in table {
        let found = problems(&config);
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert_eq!((found[0].field.as_str(), found[0].severity), (field, severity));
        assert!(!found[0].to_string().contains("hidden"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn states_come_back_from_their_layers(json in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let packed = pack(&json).unwrap();
        prop_assert_eq!(unpack(&packed.layer).unwrap(), json.clone());
        prop_assert_eq!(unpack(&gunzip(&packed.layer)).unwrap(), json.clone());
        prop_assert!(pack(&json).unwrap() == packed);
    }

    #[test]
    fn any_bytes_unpack_or_fail_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), at in 0usize..2000, flip: u8) {
        let _ = unpack(&bytes);
        let mut layer = gunzip(&pack(&bytes).unwrap().layer);
        let at = at % layer.len();
        layer[at] ^= flip;
        let _ = unpack(&layer);
        let _ = unpack(&gzip(&layer));
    }

    #[test]
    fn any_text_is_an_interval_or_fails_without_panic(text in "(@every )?[-+0-9.hmnsuµ ]{0,30}") {
        if let Ok(interval) = text.parse::<Interval>() {
            prop_assert_eq!(interval.to_string().parse::<Interval>().unwrap(), interval);
        }
    }

    #[test]
    fn intervals_come_back(seconds in 1u64..9_000_000_000) {
        let interval = Interval::from_secs(seconds).unwrap();
        prop_assert_eq!(interval.to_string().parse::<Interval>().unwrap().as_secs(), seconds);
    }

    #[test]
    fn any_json_is_checked_and_printed_without_panic(text in r#"[\[\]{}",:a-z0-9_. ]{0,200}"#) {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = problems(&value);
            let once = printed(&value);
            prop_assert_eq!(printed(&once), once);
        }
    }
}
