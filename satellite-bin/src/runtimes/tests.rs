#![allow(clippy::unwrap_used, clippy::expect_used)]
//! What the admin had survives, and apply + revert is the identity: for files as people write them, and generated ones.

use std::{collections::BTreeMap, fs, path::Path};

use proptest::prelude::*;
use serde_json::Value;
use toml_edit::DocumentMut;

use super::{hosts_toml::Entry, *};

const URL: &str = "http://127.0.0.1:8585";

/// A host's root with these files; its journal is outside.
struct Home {
    dir: tempfile::TempDir,
    host: Host,
}

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host { root: dir.path().join("root"), state: dir.path().join("state") };
        fs::create_dir_all(&host.root).unwrap();
        let home = Self { dir, host };
        for (path, text) in files {
            home.write(path, text);
        }
        home
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.host.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.host.at(path)).unwrap()
    }

    /// Every file and directory below the root.
    fn tree(&self) -> BTreeMap<String, String> {
        fn walk(dir: &Path, all: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.display().to_string();
                if path.is_dir() {
                    all.insert(name, String::new());
                    walk(&path, all);
                } else {
                    all.insert(name, fs::read_to_string(path).unwrap());
                }
            }
        }
        let mut all = BTreeMap::new();
        walk(&self.host.root, &mut all);
        all
    }
}

fn wish(mirrors: &[&str]) -> Wish {
    let mut wish = Wish::new(URL.parse().unwrap());
    for text in mirrors {
        wish.add(text).unwrap();
    }
    wish
}

const ALL: [&str; 5] = [
    "containerd:docker.io,registry.test:5000",
    "docker:true",
    "podman:docker.io,quay.io",
    "crio:quay.io",
    "k3s:docker.io,quay.io",
];
const DAEMON: &str = "/etc/docker/daemon.json";
const DROP_IN: &str = "/etc/containers/registries.conf.d/50-satellite.conf";
const K3S: &str = "/etc/rancher/k3s/registries.yaml";
const CONFIG: &str = "/etc/containerd/config.toml";
const HUB: &str = "/etc/containerd/certs.d/docker.io/hosts.toml";

fn admins() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            CONFIG,
            "version = 2\n# mine\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"p:1\" # keep\n",
        ),
        (
            HUB,
            "server = \"https://hub.corp\" # ours\n\n[host]\n  # the corporate one\n  [host.\"https://m.corp\"]\n    \
             capabilities = [\"pull\"]\n    [host.\"https://m.corp\".header]\n      x = \"y\"\n",
        ),
        (DAEMON, "{\n\t\"log-level\":  \"warn\", \"registry-mirrors\": [\"https://m.corp\"]\n}"),
        (
            "/etc/containers/registries.conf",
            "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nlocation = \"docker.io\"\ninsecure = true # why\n\
             [[registry.mirror]]\nlocation = \"m.corp\"\npull-from-mirror = \"digest-only\"\n[[registry]]\nprefix = \
             \"docker.io/team\"\nlocation = \"h.corp/team\"\n",
        ),
        (K3S, "# c\nmirrors:\n  docker.io:\n    endpoint:\n    - \"https://a.b\" # d\nconfigs: {}\n"),
    ]
}

#[test]
fn what_the_admin_had_stays_ours_goes_first_and_all_of_it_can_be_taken_back() {
    let home = Home::new(&admins());
    let before = home.tree();
    let done = home.host.apply(&wish(&ALL), None).unwrap();
    assert!(done.refused.is_empty(), "{:?}", done.refused);
    assert_eq!(done.files.len(), 6);

    let hub = home.read(HUB);
    for line in admins()[1].1.lines() {
        assert!(hub.contains(line), "{line:?} is lost:\n{hub}");
    }
    let hosts = hub.parse::<DocumentMut>().unwrap();
    let order: Vec<_> = hosts["host"].as_table().unwrap().iter().map(|(k, _)| k.to_string()).collect();
    assert_eq!(order, [URL, "https://m.corp"], "{hub}");

    let config = home.read(CONFIG);
    assert!(config.starts_with(admins()[0].1), "{config}");
    assert!(config.contains("config_path = \"/etc/containerd/certs.d\""), "{config}");
    assert_eq!(
        home.read(DAEMON),
        "{\n\t\"log-level\":  \"warn\", \"registry-mirrors\": [\"http://127.0.0.1:8585\", \"https://m.corp\"]\n}"
    );

    let drop_in = home.read(DROP_IN).parse::<DocumentMut>().unwrap();
    let tables = drop_in["registry"].as_array_of_tables().unwrap();
    let mirrors = |n: usize| tables.get(n).unwrap()["mirror"].as_array_of_tables().unwrap();
    assert_eq!(tables.len(), 3);
    assert_eq!(tables.get(0).unwrap()["insecure"].as_bool(), Some(true));
    assert_eq!(mirrors(0).get(0).unwrap()["location"].as_str(), Some("127.0.0.1:8585/docker.io"));
    assert_eq!(mirrors(0).get(1).unwrap()["pull-from-mirror"].as_str(), Some("digest-only"));
    assert_eq!(tables.get(1).unwrap()["location"].as_str(), Some("h.corp/team"));
    assert_eq!(mirrors(1).get(0).unwrap()["location"].as_str(), Some("127.0.0.1:8585/docker.io/team"));
    assert_eq!(mirrors(2).get(0).unwrap()["location"].as_str(), Some("127.0.0.1:8585/quay.io"));

    let yaml = home.read(K3S);
    assert!(yaml.contains("    - \"http://127.0.0.1:8585\"\n    - \"https://a.b\" # d\n"), "{yaml}");

    // The second time nothing happens; and what is wished no more goes.
    let again = home.host.apply(&wish(&ALL), None).unwrap();
    assert!(again.files.is_empty() && again.runtimes.is_empty(), "{again:?}");
    home.host.apply(&wish(&["docker:true"]), None).unwrap();
    assert_eq!(home.read(HUB), admins()[1].1);
    home.host.apply(&wish(&ALL), None).unwrap();
    home.host.revert(None, false).unwrap();
    assert_eq!(home.tree(), before);
    assert_eq!(home.host.applied().unwrap(), BTreeMap::new());
    assert!(!home.dir.path().join("state/runtimes.json").exists());
}

#[test]
fn what_the_admin_changes_later_survives_the_revert_and_our_lines_go() {
    let home = Home::new(&admins());
    home.host.apply(&wish(&ALL), None).unwrap();
    home.write(CONFIG, &home.read(CONFIG).replace("# mine", "# mine, and changed"));
    home.write(HUB, &format!("{}\n[host.\"https://late\"]\n", home.read(HUB)));
    let applied = home.host.applied().unwrap();
    assert!(!applied[&Kind::Containerd][CONFIG] && applied[&Kind::Docker][DAEMON], "{applied:?}");
    home.host.revert(None, false).unwrap();
    assert_eq!(home.read(CONFIG), admins()[0].1.replace("# mine", "# mine, and changed"));
    assert_eq!(home.read(HUB), format!("{}\n[host.\"https://late\"]\n", admins()[1].1));

    // In our own lines: refused with the difference, until told to.
    home.host.apply(&wish(&ALL), None).unwrap();
    home.write(HUB, &home.read(HUB).replace("dial_timeout = \"1s\"", "dial_timeout = \"9s\""));
    let kept = home.read(HUB);
    let outcome = home.host.revert(None, false).unwrap();
    let (kind, error) = &outcome.refused[0];
    assert!(*kind == Kind::Containerd && error.to_string().contains("9s"), "{error}");
    assert_eq!(home.read(HUB), kept);
    home.host.revert(None, true).unwrap();
    assert!(!home.read(HUB).contains(URL));
}

#[test]
fn files_that_do_not_parse_are_untouched_and_the_others_are_done() {
    for (mirrors, path, text, says) in [
        ("containerd:docker.io", CONFIG, "version = 2\nx = = 1\n", "line 2"),
        ("containerd:docker.io", HUB, "[host\n", "line 1"),
        ("containerd:docker.io", HUB, "host = {}\n", "table"),
        ("docker:true", DAEMON, "{\n\"a\": 1,\n}", "line 3"),
        ("docker:true", DAEMON, "{\"registry-mirrors\": \"x\"}", "not a list"),
        ("podman:docker.io", "/etc/containers/registries.conf", "[[registry]\n", "line 1"),
        ("k3s:docker.io", K3S, "mirrors: [\n", "line"),
        ("k3s:docker.io", K3S, "mirrors: {docker.io: {endpoint: [a]}}\n", "by hand"),
        ("k3s:docker.io", K3S, "a: 1\n---\nb: 2\n", "2 documents"),
        ("containerd:docker.io", CONFIG, "[plugins.cri]\n", "migrate"),
        (
            "containerd:docker.io",
            CONFIG,
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"http://m\"]\n",
            "--convert-legacy",
        ),
        (
            "podman:docker.io",
            "/etc/containers/registries.conf.d/99-late.conf",
            "[[registry]]\nlocation = \"docker.io\"\n",
            "comes after",
        ),
    ] {
        let home = Home::new(&[(path, text)]);
        let before = home.tree();
        let outcome = home.host.apply(&wish(&[mirrors]), None).unwrap();
        assert_eq!(home.tree(), before, "{path}");
        let said = outcome.refused[0].1.to_string();
        assert!(said.contains(path) && said.contains(says), "{said}");
        let rest = home.host.apply(&wish(&[mirrors, "rke2:docker.io"]), None).unwrap();
        assert_eq!(rest.files, ["/etc/rancher/rke2/registries.yaml"]);
        home.host.revert(None, false).unwrap();
        assert_eq!(home.tree(), before, "{path}");
    }
}

#[test]
fn older_mirrors_of_containerd_become_hosts_files_when_asked_for() {
    let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n[plugins.\"io.containerd.grpc.v1.cri\"\
                .registry.mirrors.\"docker.io\"]\nendpoint = [\"http://m\", \"https://n\"]\n[plugins.\"io.containerd.grpc.v1.cri\"\
                .registry.mirrors.\"*\"]\nendpoint = [\"http://all\"]\n";
    let home = Home::new(&[(CONFIG, text)]);
    let before = home.tree();
    let mut wish = wish(&["containerd:docker.io"]);
    wish.convert_legacy = true;
    assert!(home.host.apply(&wish, None).unwrap().refused.is_empty());
    let config = home.read(CONFIG);
    assert!(!config.contains("mirrors") && config.contains("config_path"), "{config}");
    let hub = home.read(HUB);
    assert!(hub.find(URL) < hub.find("http://m") && hub.find("http://m") < hub.find("https://n"), "{hub}");
    assert!(!home.read("/etc/containerd/certs.d/_default/hosts.toml").contains("server"));
    home.host.revert(None, false).unwrap();
    assert_eq!(home.tree(), before);
}

/// The journal as a kill between it and the files, or among the files, leaves it.
#[test]
fn a_kill_in_the_middle_can_be_taken_back_or_done_again() {
    let home = Home::new(&admins());
    let before = home.tree();
    home.host.apply(&wish(&ALL), None).unwrap();
    let after = home.tree();
    for path in [DAEMON, CONFIG, HUB] {
        home.write(path, &before[&home.host.at(path).display().to_string()]);
    }
    let half = home.tree();
    home.host.revert(None, false).unwrap();
    assert_eq!(home.tree(), before);
    home.host.apply(&wish(&ALL), None).unwrap();
    for path in [DAEMON, CONFIG, HUB] {
        home.write(path, &before[&home.host.at(path).display().to_string()]);
    }
    assert_eq!(home.tree(), half);
    home.host.apply(&wish(&ALL), None).unwrap();
    assert_eq!(home.tree(), after);
}

struct Blind;
impl Probe for Blind {
    fn pull(&self, _: &Host, _: Kind, _: &str) -> Sight {
        Sight::Unseen
    }
}

#[test]
fn what_a_probe_does_not_find_at_the_satellite_is_taken_back() {
    let home = Home::new(&admins());
    let before = home.tree();
    let outcome = home.host.apply(&wish(&["podman:docker.io"]), Some(&Blind)).unwrap();
    let error = &outcome.refused[0].1;
    assert!(error.to_string().contains("did not reach the satellite"), "{error}");
    assert_eq!(home.tree(), before);
    assert_eq!(home.host.applied().unwrap(), BTreeMap::new());
}

#[test]
fn wishes_are_read_as_the_reference_spells_them_and_refused_with_their_text() {
    let read = wish(&["containerd:docker.io,quay.io", "docker:true", "cri-o:h.test:5000", "docker:false"]);
    assert_eq!(read.upstreams[&Kind::Containerd], ["docker.io", "quay.io"]);
    assert_eq!(read.upstreams[&Kind::Docker], ["docker.io"]);
    assert_eq!(read.upstreams[&Kind::Crio], ["h.test:5000"]);
    for text in
        ["containerd", "containerd:", "lxc:docker.io", "podman:../x", "podman:a b", "podman:a\"b", "k3s:,"]
    {
        assert!(Wish::new(URL.parse().unwrap()).add(text).is_err(), "{text}");
    }
    assert_eq!("0.0.0.0:8585".parse::<Mirror>().unwrap().url(), URL);
    assert!("ftp://x".parse::<Mirror>().is_err() && "http://x/y".parse::<Mirror>().is_err());
}

/// hosts.toml as an admin may have it.
fn hosts_file() -> impl Strategy<Value = String> {
    let host = ("[a-c]{1,3}", prop::bool::ANY, prop::bool::ANY).prop_map(|(name, comment, header)| {
        let comment = if comment { "# about it\n" } else { "" };
        let header =
            if header { format!("[host.\"https://{name}\".header]\nx = \"y\"\n") } else { String::new() };
        (name.clone(), format!("{comment}[host.\"https://{name}\"]\n  skip_verify = true\n{header}\n"))
    });
    (prop::bool::ANY, prop::collection::btree_map("[a-c]{1,3}", host, 0..4), prop::bool::ANY).prop_map(
        |(server, hosts, end)| {
            let server = if server { "# top\nserver = 'https://s'\n" } else { "" };
            let hosts: BTreeMap<String, String> = hosts.into_values().collect();
            let text = format!("{server}{}", hosts.into_values().collect::<String>());
            if end { text } else { text.trim_end().to_string() }
        },
    )
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<bool>().prop_map(Value::from), "[a-z{\\[\"]{0,5}".prop_map(Value::from)];
    let tree = leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"]{1,4}", inner, 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    let mirrors = prop::option::of(prop::collection::vec("https://[a-z]{1,4}".prop_map(Value::from), 0..3));
    (prop::collection::btree_map("[a-z]{1,5}", tree, 0..4), mirrors).prop_map(|(rest, mirrors)| {
        let mut all: serde_json::Map<String, Value> = rest.into_iter().collect();
        all.extend(mirrors.map(|m| ("registry-mirrors".to_string(), Value::from(m))));
        Value::Object(all)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hosts_of_the_admin_keep_their_bytes_and_order(before in hosts_file()) {
        let mirror: Mirror = URL.parse().unwrap();
        let after = hosts_toml::merge(HUB, Some(&before), "docker.io", &[Entry::of(URL, &mirror)]).unwrap();
        let order = |text: &str| -> Vec<String> {
            let document: DocumentMut = text.parse().unwrap();
            document.get("host").and_then(|h| h.as_table()).map(|t| t.iter().map(|(k, _)| k.into()).collect())
                .unwrap_or_default()
        };
        let mut expected = order(&before);
        expected.insert(0, URL.into());
        prop_assert_eq!(order(&after), expected);
        for line in before.lines() {
            prop_assert!(after.contains(line));
        }
        let again = hosts_toml::merge(HUB, Some(&after), "docker.io", &[Entry::of(URL, &mirror)]).unwrap();
        prop_assert_eq!(again, after);
    }

    #[test]
    fn other_keys_of_daemon_json_survive(before in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&before) } else { serde_json::to_string(&before) }.unwrap();
        let after = docker::prepend(Some(&text), "registry-mirrors", URL).unwrap();
        let mut wanted = before;
        let list = wanted.as_object_mut().unwrap().entry("registry-mirrors").or_insert(Value::Array(Vec::new()));
        list.as_array_mut().unwrap().insert(0, URL.into());
        prop_assert_eq!(serde_json::from_str::<Value>(&after).unwrap(), wanted);
        prop_assert_eq!(docker::prepend(Some(&after), "registry-mirrors", URL).unwrap(), after);
    }

    #[test]
    fn apply_and_revert_is_the_identity_for_whatever_is_there(
        texts in prop::collection::vec(prop_oneof![
            "[a-z\\[\\]{}\":=,.\n #-]{0,40}".boxed(), hosts_file().boxed(), json().prop_map(|j| j.to_string()).boxed(),
            prop::sample::select(admins().iter().map(|(_, t)| t.to_string()).collect::<Vec<_>>()).boxed(),
        ], 5),
    ) {
        let files: Vec<(&str, &str)> = admins().iter().zip(&texts).map(|((path, _), text)| (*path, text.as_str())).collect();
        let home = Home::new(&files);
        let before = home.tree();
        let first = home.host.apply(&wish(&ALL), None).unwrap();
        let after = home.tree();
        let again = home.host.apply(&wish(&ALL), None).unwrap();
        prop_assert!(again.files.is_empty(), "{:?} after {:?}", again, first);
        prop_assert_eq!(&home.tree(), &after);
        home.host.revert(None, false).unwrap();
        prop_assert_eq!(home.tree(), before);
    }
}
