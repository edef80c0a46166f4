//! What would change: texts before and after, and what has to be done for a runtime to see them. Nothing is written.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{
    Error, Host, Wish, containerd,
    detect::{Found, Store},
    docker, files,
    hosts_toml::{self, Entry},
    journal::Journal,
    k3s, registries_conf,
    reload::Reload,
    wish::Kind,
};

/// The files of a host as they would be without us.
pub trait View {
    /// The text of a file; `None` if there is none.
    fn read(&self, path: &str) -> Result<Option<String>, Error>;
    /// The names in a directory, in order.
    fn list(&self, dir: &str) -> Vec<String>;
}

/// A file that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whose.
    pub kind: Kind,
    /// Where, on the host.
    pub path: String,
    /// As it is; `None`: it is not there.
    pub before: Option<String>,
    /// As it will be; `None`: it goes.
    pub after: Option<String>,
    /// As it is without us, for `revert`.
    #[serde(skip)]
    pub(super) original: Option<String>,
}

impl Change {
    /// A unified diff.
    pub fn diff(&self) -> String {
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let patch = diffy::create_patch(before.unwrap_or_default(), after.unwrap_or_default()).to_string();
        let lines = patch.split_once("+++ modified\n").map_or(patch.as_str(), |(_, rest)| rest);
        let name = |text: Option<&str>| text.map_or("/dev/null", |_| self.path.as_str());
        format!("--- {}\n+++ {}\n{lines}", name(before), name(after))
    }
}

/// All that would be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files, by path.
    pub changes: Vec<Change>,
    /// What each runtime needs then.
    pub reloads: BTreeMap<Kind, Reload>,
    /// What whoever runs this should know.
    pub notes: Vec<String>,
    /// Runtimes that are left as they are, and why.
    pub refused: Vec<(Kind, Error)>,
    /// What is ours afterwards.
    pub(super) owned: Vec<Change>,
}

/// A file as it is to be, with what a change of it needs.
struct Edit {
    path: String,
    after: String,
    reload: Reload,
}

/// What a runtime shall have.
#[derive(Default)]
struct Wanted {
    edits: Vec<Edit>,
    notes: Vec<String>,
}

impl Wanted {
    fn add(&mut self, path: impl Into<String>, after: String, reload: Reload) {
        self.edits.push(Edit { path: path.into(), after, reload });
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// What a runtime shall have for a wish. Pure on what `view` gives.
fn wanted(
    kind: Kind,
    wish: &Wish,
    found: &Found,
    view: &dyn View,
    ca: Option<&str>,
) -> Result<Wanted, Error> {
    let hosts = wish.upstreams.get(&kind).map(Vec::as_slice).unwrap_or_default();
    let mut wanted = Wanted::default();
    let url = wish.mirror.url();
    match kind {
        Kind::Containerd => {
            let config = containerd::switch_on(
                view.read(containerd::CONFIG)?.as_deref(),
                found.major(),
                wish.convert_legacy,
            )?;
            for (host, endpoints) in config.converted.iter().filter(|(h, _)| !hosts.contains(h)) {
                let entries: Vec<_> = endpoints.iter().map(|url| plain(url)).collect();
                let path = containerd::hosts_file(&config.certs_d, host);
                let text = hosts_toml::merge(&path, view.read(&path)?.as_deref(), host, &entries)?;
                wanted.add(path, text, Reload::None);
            }
            for host in hosts {
                let mut path = containerd::hosts_file(&config.certs_d, host);
                if let Some(other) = containerd::other_hosts_file(&config.certs_d, host)
                    && view.read(&path)?.is_none()
                    && view.read(&other)?.is_some()
                {
                    path = other;
                }
                let mut entries = vec![Entry::of(&url, &wish.mirror)];
                let converted = config.converted.iter().find(|(h, _)| h == host);
                entries.extend(
                    converted.into_iter().flat_map(|(_, e)| e).filter(|e| **e != url).map(|url| plain(url)),
                );
                let text = hosts_toml::merge(&path, view.read(&path)?.as_deref(), host, &entries)?;
                wanted.add(path, text, Reload::None);
            }
            wanted.add(containerd::CONFIG, config.text, Reload::Restart);
            wanted.note("containerd: `image_pull_with_sync_fs = true` (2.x) keeps unpacked images whole through power cuts");
        }
        Kind::Docker => {
            let any = found.store == Some(Store::Containerd) && found.major().is_none_or(|m| m >= 28);
            if any {
                for host in hosts {
                    let path = containerd::hosts_file(docker::CERTS_D, host);
                    let text = hosts_toml::merge(
                        &path,
                        view.read(&path)?.as_deref(),
                        host,
                        &[Entry::of(&url, &wish.mirror)],
                    )?;
                    wanted.add(path, text, Reload::None);
                }
                return Ok(wanted);
            }
            for host in hosts.iter().filter(|h| *h != "docker.io") {
                wanted.note(format!(
                    "docker: images of {host} do not go through a mirror before Docker 28 with the containerd store; pull {}/… \
                     instead",
                    wish.mirror.address()
                ));
            }
            if hosts.iter().any(|h| h == "docker.io") {
                let before = view.read(docker::CONFIG)?;
                // 20.10 takes no path in a mirror, 26 does (proven); without one the satellite goes by the User-Agent.
                let path = if found.major().is_some_and(|m| m >= 26) { "/docker.io" } else { "" };
                let entry = format!("{url}{path}");
                let mut text = docker::prepend(before.as_deref(), "registry-mirrors", &entry)?;
                if wish.mirror.is_plain() && !wish.mirror.is_loopback() {
                    text = docker::prepend(Some(&text), "insecure-registries", wish.mirror.address())?;
                }
                wanted.add(docker::CONFIG, text, Reload::Reload);
                if let Some(ca) = ca {
                    let path = format!("{}/{}/satellite.crt", docker::CERTS_D, wish.mirror.address());
                    wanted.add(path, ca.into(), Reload::None);
                }
            }
        }
        Kind::Podman | Kind::Crio => {
            let both =
                [Kind::Podman, Kind::Crio].into_iter().filter_map(|k| wish.upstreams.get(&k)).flatten();
            let mut hosts: Vec<String> = both.cloned().collect();
            hosts.sort();
            hosts.dedup();
            let mut all = Vec::new();
            let drop_ins = view.list(registries_conf::DROP_INS).into_iter();
            let drop_ins = drop_ins
                .filter(|name| name.ends_with(".conf") && name != registries_conf::OURS)
                .map(|name| format!("{}/{name}", registries_conf::DROP_INS));
            for path in [registries_conf::MAIN.to_string()].into_iter().chain(drop_ins) {
                if let Some(text) = view.read(&path)? {
                    all.push((path, text));
                }
            }
            let path = format!("{}/{}", registries_conf::DROP_INS, registries_conf::OURS);
            if let Some(text) = view.read(&path)? {
                all.push((path.clone(), text));
            }
            let text = registries_conf::drop_in(&all, &hosts, &wish.mirror, wish.offline)?;
            wanted.add(path, text, if kind == Kind::Crio { Reload::Reload } else { Reload::None });
            if let Some(ca) = ca {
                let path = format!("{}/{}/satellite.crt", registries_conf::CERTS_D, wish.mirror.address());
                wanted.add(path, ca.into(), Reload::None);
            }
            if kind == Kind::Podman {
                wanted.note("podman: a running `podman system service` reads the files anew on SIGHUP; commands at once");
            }
        }
        Kind::K3s | Kind::Rke2 => {
            let before = view.read(&found.config)?;
            let text = k3s::merge(&found.config, before.as_deref(), hosts, &url)?;
            wanted.add(&found.config, text, Reload::Restart);
            if wish.mirror.ca.is_some() {
                wanted.note(format!("{kind}: give the satellite's CA under configs in {}", found.config));
            }
        }
    }
    Ok(wanted)
}

/// An endpoint of the older form.
fn plain(url: &str) -> Entry<'_> {
    Entry { url, ca: None, dial_timeout: false }
}

/// The host's files, with ours taken out of them.
struct WithoutUs<'a> {
    host: &'a Host,
    journal: &'a Journal,
}

impl View for WithoutUs<'_> {
    fn read(&self, path: &str) -> Result<Option<String>, Error> {
        let now = files::read(&self.host.at(path)).map_err(|e| named(e, path))?;
        match self.journal.files.get(path) {
            Some(entry) => entry.without_us(path, now.as_deref()),
            None => Ok(now),
        }
    }

    fn list(&self, dir: &str) -> Vec<String> {
        let names = std::fs::read_dir(self.host.at(dir)).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.take(10_000).filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Errors speak of the host's paths.
fn named(error: Error, path: &str) -> Error {
    match error {
        Error::Unparsable { problem, .. } => Error::Unparsable { file: path.into(), problem },
        other => other,
    }
}

impl Host {
    /// What `apply` would do for this wish. What was applied before and is wished no more goes.
    pub fn plan(&self, wish: &Wish) -> Result<Plan, Error> {
        let journal = self.journal()?;
        let view = WithoutUs { host: self, journal: &journal };
        let ca = match wish.mirror.ca.as_deref() {
            Some(path) => Some(files::read(path)?.ok_or_else(|| {
                Error::refused(
                    path.display().to_string(),
                    "there is no such file, and the mirror's CA should be in it",
                )
            })?),
            None => None,
        };
        let mut plan = Plan::default();
        let mut seen: BTreeMap<String, Option<Kind>> = BTreeMap::new();
        for (kind, hosts) in &wish.upstreams {
            if hosts.is_empty() {
                continue;
            }
            let made = wanted(*kind, wish, &self.look(*kind), &view, ca.as_deref());
            let made = made.and_then(|w| {
                let changes = w.edits.into_iter().map(|edit| {
                    let original = view.read(&edit.path)?;
                    let before = files::read(&self.at(&edit.path))?;
                    let change =
                        Change { kind: *kind, path: edit.path, before, after: Some(edit.after), original };
                    Ok((change, edit.reload))
                });
                Ok((changes.collect::<Result<Vec<_>, Error>>()?, w.notes))
            });
            match made {
                Ok((changes, notes)) => {
                    for (change, reload) in changes {
                        plan.take(*kind, change, reload, &mut seen);
                    }
                    plan.notes.extend(notes);
                }
                Err(e) => plan.refused.push((*kind, e)),
            }
        }
        for (path, entry) in &journal.files {
            let refused = plan.refused.iter().any(|(kind, _)| *kind == entry.kind);
            if seen.contains_key(path) || refused {
                continue;
            }
            let before = files::read(&self.at(path))?;
            match entry.without_us(path, before.as_deref()) {
                Ok(after) => {
                    let original = after.clone();
                    let change = Change { kind: entry.kind, path: path.clone(), before, after, original };
                    let reload = reload_of(path, entry.kind);
                    plan.take(entry.kind, change, reload, &mut seen);
                }
                Err(e) => plan.refused.push((entry.kind, e)),
            }
        }
        Ok(plan)
    }
}

impl Plan {
    fn take(
        &mut self,
        kind: Kind,
        change: Change,
        reload: Reload,
        seen: &mut BTreeMap<String, Option<Kind>>,
    ) {
        if change.before != change.after {
            let needed = self.reloads.entry(kind).or_insert(Reload::None);
            *needed = reload.max(*needed);
        }
        if seen.insert(change.path.clone(), Some(kind)).is_some() {
            return;
        }
        if change.original != change.after {
            self.owned.push(change.clone());
        }
        if change.before != change.after {
            self.changes.push(change);
        }
    }
}

/// What the change of a file needs, by its name.
pub(super) fn reload_of(path: &str, kind: Kind) -> Reload {
    let name = Path::new(path).file_name().and_then(|n| n.to_str()).unwrap_or_default();
    match (kind, name) {
        (Kind::Containerd, "config.toml") | (Kind::K3s | Kind::Rke2, _) => Reload::Restart,
        (Kind::Docker, "daemon.json") | (Kind::Crio, registries_conf::OURS) => Reload::Reload,
        _ => Reload::None,
    }
}
