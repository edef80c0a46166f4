//! A configuration, with flags and environment over it, becomes [`Settings`], or a list of what is wrong. Pure: what has
//! to be looked up is given.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use log::LevelFilter;
use satellite_core::{fleet::config, remote::Secret};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    edge::{self, Edge},
    effective::{
        Audit, AuditTarget, Collect, Delivery, Fallback, OwnRegistry, RegistryMode, Settings, Spiffe,
        SvidFiles, Syslog, TlsFiles,
    },
    flags::Flags,
    overlay::{Overlay, Source},
    zot,
};
use crate::{
    agent::schedule::Schedule,
    runtimes::{Kind, Mirror, Wish},
};

/// What is asked of the machine.
pub(super) struct World<'a> {
    /// Reads a variable.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a file is there.
    pub(super) exists: &'a dyn Fn(&Path) -> bool,
    /// Where relative paths of a configuration begin.
    pub(super) dir: &'a Path,
}

/// A value that holds, and where it comes from. Secrets are `***`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// `app_config.log_level`
    pub field: String,
    /// What holds; `null`: nothing is set.
    pub value: Value,
    /// Where it comes from.
    pub source: Source,
}

/// A field that does not hold what it must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Problem {
    /// From the top of the document; with the flag or variable that set it.
    pub field: String,
    /// What is expected. Never what was given: it may be a password in the wrong place.
    pub problem: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Resolved {
    /// What holds.
    pub settings: Settings,
    /// Each value of it, and where it comes from.
    pub shown: Vec<Shown>,
    /// What is not as somebody may think; each a line.
    pub warnings: Vec<String>,
}

/// What would hold on this machine, were `document` its configuration.
///
/// # Errors
/// All that is wrong.
pub fn check(document: &Value, origin: Source, flags: &Flags) -> Result<Resolved, Vec<Problem>> {
    let dir = flags.config_dir();
    let dir = std::path::absolute(&dir).unwrap_or(dir);
    let world = World { env: &|name| std::env::var(name).ok(), exists: &Path::exists, dir: &dir };
    resolve(document, origin, flags, &world)
}

/// Reads fields, and remembers what it gave.
pub(super) struct View<'a> {
    overlay: &'a Overlay,
    origin: Source,
    /// Fields whose value is not taken.
    ignored: BTreeSet<String>,
    shown: Vec<Shown>,
    warnings: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

impl View<'_> {
    /// The value, where there is a usable one.
    fn value(&self, path: &str) -> Option<&Value> {
        if self.ignored.contains(path) {
            return None;
        }
        self.overlay.at(path).filter(|v| v.as_str() != Some(""))
    }

    fn show(&mut self, path: &str, value: Value, is_set: bool) {
        let source = match self.overlay.given.get(path) {
            _ if !is_set => Source::Default,
            Some(given) => given.source,
            None => self.origin,
        };
        self.shown.push(Shown { field: path.into(), value, source });
    }

    pub(super) fn text(&mut self, path: &str, default: Option<&str>) -> Option<String> {
        let set = self.value(path).and_then(Value::as_str).map(str::to_string);
        let is_set = set.is_some();
        let value = set.or_else(|| default.map(Into::into));
        self.show(path, json!(value), is_set);
        value
    }

    fn secret(&mut self, path: &str) -> Option<Secret> {
        let set = self.value(path).and_then(Value::as_str).map(Secret::new);
        let shown = if set.is_some() { json!("***") } else { Value::Null };
        self.show(path, shown, set.is_some());
        set
    }

    pub(super) fn flag(&mut self, path: &str, default: bool) -> bool {
        let set = self.value(path).and_then(Value::as_bool);
        let value = set.unwrap_or(default);
        self.show(path, json!(value), set.is_some());
        value
    }

    fn count(&mut self, path: &str, default: u64) -> u64 {
        let set = self.value(path).and_then(Value::as_u64);
        let value = set.unwrap_or(default);
        self.show(path, json!(value), set.is_some());
        value
    }

    /// Texts that are not blank.
    fn list(&mut self, path: &str) -> Vec<String> {
        let items = self.overlay.at(path).and_then(Value::as_array);
        let texts = items.into_iter().flatten().filter_map(Value::as_str).map(str::trim);
        let value: Vec<String> = texts.filter(|t| !t.is_empty()).map(Into::into).collect();
        self.show(path, json!(value), !value.is_empty());
        value
    }

    fn path(&mut self, path: &str) -> Option<PathBuf> {
        self.text(path, None).map(Into::into)
    }

    fn url(&mut self, path: &str) -> Option<Url> {
        let text = self.text(path, None)?;
        match text.parse() {
            Ok(url) => Some(url),
            Err(_) => {
                self.wrong(path, "must be a URL, as in https://harbor.example");
                None
            }
        }
    }

    fn schedule(&mut self, path: &str, default_secs: u64) -> Schedule {
        let set = self.value(path).and_then(Value::as_str).and_then(|t| t.parse::<Schedule>().ok());
        let is_set = set.is_some();
        let value = set.unwrap_or(Schedule::every(Duration::from_secs(default_secs)));
        self.show(path, json!(value.to_string()), is_set);
        value
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    pub(super) fn wrong(&mut self, path: &str, problem: impl Into<String>) {
        let field = match self.overlay.given.get(path) {
            Some(given) => format!("{path} (from {})", given.name),
            None => path.into(),
        };
        self.problems.push(Problem { field, problem: problem.into() });
    }

    pub(super) fn raw(&self, path: &str) -> Option<&Value> {
        self.overlay.at(path)
    }
}

/// Makes settings of a configuration. `origin` is where the configuration comes from.
///
/// # Errors
/// All that is wrong; one is enough for the whole to be refused.
pub(super) fn resolve(
    document: &Value,
    origin: Source,
    flags: &Flags,
    world: &World<'_>,
) -> Result<Resolved, Vec<Problem>> {
    let overlay = Overlay::new(document, flags, world.env);
    let mut view = View {
        overlay: &overlay,
        origin,
        ignored: BTreeSet::new(),
        shown: Vec::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
    };
    for problem in config::problems(&overlay.document) {
        if problem.severity == config::Severity::Ignored {
            if !is_of_list(&problem.field) {
                view.warn(format!("{}: {}; the default is taken", problem.field, problem.problem));
            }
            view.ignored.insert(problem.field);
        } else {
            view.wrong(&problem.field, problem.problem);
        }
    }
    if !view.problems.is_empty() {
        return Err(view.problems);
    }
    let settings = settings(&mut view, flags, world);
    match settings {
        Some(settings) if view.problems.is_empty() => {
            Ok(Resolved { settings, shown: view.shown, warnings: view.warnings })
        }
        _ => Err(view.problems),
    }
}

/// Lists whose good entries are taken one by one.
fn is_of_list(field: &str) -> bool {
    field.starts_with("app_config.registry_fallback.")
}

fn settings(view: &mut View<'_>, flags: &Flags, world: &World<'_>) -> Option<Settings> {
    let ground_control = view.url("app_config.ground_control_url");
    let only_runtimes = flags.fallback_only.and_then(|s| s.0) == Some(true);
    if ground_control.is_none() && !only_runtimes && view.problems.is_empty() {
        view.wrong("--ground-control-url", "must be given, or GROUND_CONTROL_URL: where Ground Control is");
    }
    // Never spoken to by a process that only points runtimes here.
    let ground_control =
        ground_control.or_else(|| if only_runtimes { "https://localhost/".parse().ok() } else { None });
    let use_unsecure = view.flag("app_config.use_unsecure", false);
    let log_level = level(view);
    let replicate = view.schedule("app_config.state_replication_interval", 30);
    let register = view.schedule("app_config.register_satellite_interval", 5);
    let heartbeat = view.schedule("app_config.heartbeat_interval", 30);
    let collect = Collect {
        cpu: view.flag("app_config.metrics.collect_cpu", false),
        memory: view.flag("app_config.metrics.collect_memory", false),
        storage: view.flag("app_config.metrics.collect_storage", false),
    };
    let (tls, spiffe) = certificates(view, world);
    let harbor = view.url("app_config.harbor_registry_url");
    let registry = registry(view, world);
    let fallback = fallback(view, flags);
    let delivery = match (
        view.flag("app_config.direct_delivery.enabled", false),
        view.path("app_config.direct_delivery.image_dir"),
    ) {
        (false, _) => Delivery::Off,
        (true, None) => Delivery::Found,
        (true, Some(dir)) => Delivery::Into(dir),
    };
    let audit = audit(view, world);
    let encrypt = view.flag("app_config.encrypt_config", true);
    let edge = edge(view);
    Some(Settings {
        ground_control: ground_control?,
        use_unsecure,
        log_level,
        replicate,
        register,
        heartbeat,
        collect,
        tls,
        spiffe,
        harbor,
        registry: registry?,
        fallback,
        delivery,
        audit,
        encrypt,
        edge,
    })
}

/// The agent's, else the registry's.
fn level(view: &mut View<'_>) -> LevelFilter {
    let of_registry = view.raw("zot_config.log.level").and_then(Value::as_str).map(str::to_string);
    let text = match view.value("app_config.log_level") {
        None => {
            let text = of_registry.unwrap_or_else(|| "info".into());
            view.show("zot_config.log.level", json!(text), view.raw("zot_config.log.level").is_some());
            text
        }
        Some(_) => view.text("app_config.log_level", None).unwrap_or_default(),
    };
    match text.to_ascii_lowercase().as_str() {
        "trace" => LevelFilter::Trace,
        "debug" => LevelFilter::Debug,
        "warn" => LevelFilter::Warn,
        "error" | "fatal" | "panic" => LevelFilter::Error,
        _ => LevelFilter::Info,
    }
}

fn certificates(view: &mut View<'_>, world: &World<'_>) -> (TlsFiles, Spiffe) {
    let tls = TlsFiles {
        cert: view.path("app_config.tls.cert_file"),
        key: view.path("app_config.tls.key_file"),
        ca: view.path("app_config.tls.ca_file"),
        skip_verify: view.flag("app_config.tls.skip_verify", false),
    };
    if tls.skip_verify {
        view.warn("app_config.tls.skip_verify: certificates are verified all the same; name an authority in ca_file");
    }
    let enabled = view.flag("app_config.spiffe.enabled", false);
    if !enabled {
        for (name, file) in [("cert_file", &tls.cert), ("key_file", &tls.key), ("ca_file", &tls.ca)] {
            if file.as_ref().is_some_and(|f| !(world.exists)(f)) {
                view.wrong(&format!("app_config.tls.{name}"), "there is no such file");
            }
        }
        return (tls, Spiffe::default());
    }
    view.text("app_config.spiffe.endpoint_socket", None);
    let expected_server_id = view.text("app_config.spiffe.expected_server_id", None);
    let cert = view.path("app_config.spiffe.cert_file").or_else(|| tls.cert.clone());
    let key = view.path("app_config.spiffe.key_file").or_else(|| tls.key.clone());
    let bundle = view.path("app_config.spiffe.bundle_file").or_else(|| tls.ca.clone());
    // They may come later than this process: whoever writes them starts at the same time.
    let files = match (cert, key) {
        (Some(cert), Some(key)) => Some(SvidFiles { cert, key, bundle }),
        (cert, _) => {
            let missing = if cert.is_none() { "cert_file" } else { "key_file" };
            view.wrong(
                &format!("app_config.spiffe.{missing}"),
                "must be set where spiffe is enabled: a file that spiffe-helper or the like keeps fresh",
            );
            None
        }
    };
    (tls, Spiffe { files, expected_server_id })
}

fn registry(view: &mut View<'_>, world: &World<'_>) -> Option<RegistryMode> {
    if !view.flag("app_config.bring_own_registry", false) {
        return zot::embedded(view, world.dir).map(RegistryMode::Embedded);
    }
    let url = view.url("app_config.local_registry.url");
    let username = view.text("app_config.local_registry.username", None);
    let password = view.secret("app_config.local_registry.password");
    if username.is_some() != password.is_some() {
        view.warn("app_config.local_registry: a user without password, or the other way round");
    }
    if view.raw("zot_config").is_some() {
        view.warn("zot_config has no meaning beside bring_own_registry");
    }
    Some(RegistryMode::Own(OwnRegistry { url: url?, username, password }))
}

fn fallback(view: &mut View<'_>, flags: &Flags) -> Fallback {
    let enabled = view.flag("app_config.registry_fallback.enabled", false);
    let mut registries = view.list("app_config.registry_fallback.registries");
    let names = view.list("app_config.registry_fallback.runtimes");
    if flags.no_registry_fallback.and_then(|s| s.0) == Some(true) {
        return Fallback::Off;
    }
    if !enabled {
        return mirrors(view, flags);
    }
    let mut runtimes = Vec::new();
    for name in &names {
        match name.parse::<Kind>() {
            Ok(kind) => runtimes.push(kind),
            Err(e) => view.warn(format!("app_config.registry_fallback.runtimes: {e}")),
        }
    }
    if runtimes.is_empty() && !names.is_empty() {
        // Meant were some, and not all that there are.
        return Fallback::Off;
    }
    if registries.is_empty() {
        registries.push("docker.io".into());
    }
    registries.retain(|registry| {
        let good = "http://127.0.0.1:8585"
            .parse::<Mirror>()
            .map(Wish::new)
            .and_then(|mut wish| wish.add_registry(Kind::Containerd, registry));
        if let Err(e) = &good {
            view.warn(format!("app_config.registry_fallback.registries: {e}"));
        }
        good.is_ok()
    });
    Fallback::Registries { registries, runtimes }
}

fn mirrors(view: &mut View<'_>, flags: &Flags) -> Fallback {
    if flags.mirrors.is_empty() {
        return Fallback::Off;
    }
    let wish = "http://127.0.0.1:8585".parse::<Mirror>().map(Wish::new);
    if let Err(e) = wish.and_then(|mut wish| flags.mirrors.iter().try_for_each(|text| wish.add(text))) {
        view.wrong("--mirrors", e.to_string());
    }
    view.shown.push(Shown { field: "--mirrors".into(), value: json!(flags.mirrors), source: Source::Flag });
    Fallback::Mirrors(flags.mirrors.clone())
}

fn audit(view: &mut View<'_>, world: &World<'_>) -> Audit {
    const FILE: &str = "app_config.audit.syslog.file";
    let enabled = view.flag("app_config.audit.enabled", false);
    if !enabled {
        return Audit { enabled, syslog: None, otel: None };
    }
    let syslog = view.flag("app_config.audit.syslog.enabled", true).then(|| {
        let tag = view.text("app_config.audit.syslog.tag", Some("harbor-audit")).unwrap_or_default();
        let target = match view.text("app_config.audit.syslog.target", Some("file")).as_deref() {
            Some("daemon") => AuditTarget::Daemon {
                socket: view
                    .text("app_config.audit.syslog.socket_path", Some("/dev/log"))
                    .unwrap_or_default()
                    .into(),
            },
            Some("network") => AuditTarget::Network {
                tcp: view.text("app_config.audit.syslog.network", Some("udp")).as_deref() == Some("tcp"),
                address: view.text("app_config.audit.syslog.address", None).unwrap_or_default(),
            },
            _ => {
                let path = view.text(&format!("{FILE}.path"), Some("audit.log")).unwrap_or_default();
                let megabytes = view.count(&format!("{FILE}.max_size_mb"), 100);
                let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                AuditTarget::File {
                    path: world.dir.join(path),
                    max_size: if megabytes == 0 { 100 } else { megabytes }.saturating_mul(1 << 20),
                    max_backups: small(view.count(&format!("{FILE}.max_backups"), 7)),
                    max_age_days: small(view.count(&format!("{FILE}.max_age_days"), 30)),
                    compress: view.flag(&format!("{FILE}.compress"), true),
                }
            }
        };
        Syslog { target, tag }
    });
    let otel = view
        .flag("app_config.audit.otel.enabled", false)
        .then(|| view.text("app_config.audit.otel.endpoint", None).unwrap_or_default());
    if syslog.is_none() && otel.is_none() {
        view.wrong("app_config.audit", "is enabled, and neither its syslog nor its otel is");
    }
    Audit { enabled, syslog, otel }
}

fn edge(view: &mut View<'_>) -> Edge {
    let Some(value) = view.raw(edge::PATH).cloned() else { return Edge::default() };
    match Edge::read(&value) {
        Ok(edge) => {
            for (name, value) in value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
                view.show(&format!("{}.{name}", edge::PATH), value.clone(), true);
            }
            edge
        }
        Err(wrong) => {
            for (field, problem) in wrong {
                view.wrong(&field, problem);
            }
            Edge::default()
        }
    }
}
