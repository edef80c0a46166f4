//! Flags and environment laid over a configuration, and where each value came from. Pure but for the environment, which
//! is given.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::Serialize;
use serde_json::{Map, Value};

use super::flags::{Flags, Switch};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The command line.
    Flag,
    /// A variable of the environment.
    Env,
    /// `config.json`, as somebody here wrote it.
    File,
    /// The configuration that Ground Control published.
    Remote,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flag => "flag",
            Self::Env => "env",
            Self::File => "file",
            Self::Remote => "remote",
            Self::Default => "default",
        })
    }
}

/// What a flag or variable set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) source: Source,
    /// `--ground-control-url`, or the variable's name.
    pub(super) name: &'static str,
}

/// A configuration with what was given on top.
pub(super) struct Overlay {
    pub(super) document: Value,
    /// By path.
    pub(super) given: BTreeMap<&'static str, Given>,
}

impl Overlay {
    /// `env` reads a variable: what is the same there as in the flags came from there.
    pub(super) fn new(document: &Value, flags: &Flags, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let document = if document.is_null() { Value::Object(Map::new()) } else { document.clone() };
        let mut on = Self { document, given: BTreeMap::new() };
        let given = |flag: &'static str, variable: &'static str, text: &str| match env(variable) {
            Some(set) if set == text => Given { source: Source::Env, name: variable },
            _ => Given { source: Source::Flag, name: flag },
        };
        let mut text = |path: &'static str, flag, variable, value: Option<&str>| {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                on.set(path, value.into(), given(flag, variable, value));
            }
        };
        let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(absolute);
        text(
            "app_config.ground_control_url",
            "--ground-control-url",
            "GROUND_CONTROL_URL",
            flags.ground_control_url.as_deref(),
        );
        text(
            "app_config.harbor_registry_url",
            "--harbor-registry-url",
            "HARBOR_REGISTRY_URL",
            flags.harbor_registry_url.as_deref(),
        );
        text(
            "app_config.local_registry.url",
            "--registry-url",
            "REGISTRY_URL",
            flags.registry_url.as_deref(),
        );
        text(
            "app_config.local_registry.username",
            "--registry-username",
            "REGISTRY_USERNAME",
            flags.registry_username.as_deref(),
        );
        text(
            "app_config.local_registry.password",
            "--registry-password",
            "REGISTRY_PASSWORD",
            flags.registry_password.as_ref().map(|p| p.expose()),
        );
        text(
            "zot_config.storage.rootDirectory",
            "--registry-data-dir",
            "REGISTRY_DATA_DIR",
            path(&flags.registry_data_dir).as_deref(),
        );
        text(
            "app_config.direct_delivery.image_dir",
            "--image-dir",
            "IMAGE_DIR",
            path(&flags.image_dir).as_deref(),
        );
        text(
            "app_config.spiffe.endpoint_socket",
            "--spiffe-endpoint-socket",
            "SPIFFE_ENDPOINT_SOCKET",
            flags.spiffe_endpoint_socket.as_deref(),
        );
        text(
            "app_config.spiffe.expected_server_id",
            "--spiffe-expected-server-id",
            "SPIFFE_EXPECTED_SERVER_ID",
            flags.spiffe_expected_server_id.as_deref(),
        );
        let mut switch = |path: &'static str, flag, variable, value: Option<Switch>| {
            if let Some(value) = value.and_then(|v| v.0) {
                let source = if env(variable).is_some_and(|v| is(&v) == Some(value)) {
                    Given { source: Source::Env, name: variable }
                } else {
                    Given { source: Source::Flag, name: flag }
                };
                on.set(path, value.into(), source);
            }
        };
        switch("app_config.use_unsecure", "--use-unsecure", "USE_UNSECURE", flags.use_unsecure);
        switch("app_config.bring_own_registry", "--byo-registry", "BYO_REGISTRY", flags.byo_registry);
        switch(
            "app_config.direct_delivery.enabled",
            "--direct-delivery",
            "DIRECT_DELIVERY",
            flags.direct_delivery,
        );
        switch("app_config.spiffe.enabled", "--spiffe-enabled", "SPIFFE_ENABLED", flags.spiffe_enabled);
        on
    }

    fn set(&mut self, path: &'static str, value: Value, given: Given) {
        if put(&mut self.document, path, value) {
            self.given.insert(path, given);
        }
    }

    /// What is there; `null` is nothing.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        at(&self.document, path)
    }
}

fn is(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.into()).to_string_lossy().into_owned()
}

/// The value at a path of names with dots between; `null` is nothing.
pub(super) fn at<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(document, |value, name| value.get(name)).filter(|v| !v.is_null())
}

/// Puts a value at a path, and makes the objects above it. `false`, and nothing changed, where one is something else.
pub(super) fn put(document: &mut Value, path: &str, value: Value) -> bool {
    let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = document;
    for parent in parents.split('.').filter(|p| !p.is_empty()) {
        let Value::Object(map) = place else { return false };
        place = map.entry(parent).or_insert(Value::Null);
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
    }
    let Value::Object(map) = place else { return false };
    map.insert(name.into(), value);
    true
}
