//! Every route, who may call it, and a body that is right for it. What the server says of itself must be in here.

use serde_json::{Value, json};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Anybody.
    Public,
    /// A user of either role.
    User,
    /// The administrator of the system alone.
    SystemAdmin,
    /// A satellite by its robot account.
    Satellite,
    /// A satellite by its certificate.
    Certificate,
}

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// With `{names}` as the OpenAPI document has them.
    pub(crate) path: &'static str,
    pub(crate) who: Who,
    /// A body that is right but for what it names, which does not exist; null where none is read.
    pub(crate) body: Value,
}

impl Route {
    /// The path with something put in that does not exist.
    pub(crate) fn target(&self) -> String {
        self.filled("absent-1")
    }

    /// The path with `text` for every name in it.
    pub(crate) fn filled(&self, text: &str) -> String {
        let mut path = String::new();
        for (n, part) in self.path.split(['{', '}']).enumerate() {
            path.push_str(if n % 2 == 0 { part } else { text });
        }
        path
    }

    /// True if there is a name in its path.
    pub(crate) fn named(&self) -> bool {
        self.path.contains('{')
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Route> {
    use Who::{Certificate, Public, Satellite, SystemAdmin, User};
    let route = |method, path, who, body| Route { method, path, who, body };
    let group = json!({"group": "absent-1", "registry": "", "artifacts": [
        {"repository": "library/web", "tag": ["v1"], "labels": null, "type": "docker", "digest": "", "deleted": false}]});
    let config = json!({"app_config": {"log_level": "info", "heartbeat_interval": "@every 30s"}});
    let member = json!({"satellite": "absent-1", "group": "absent-1"});
    vec![
        route("GET", "/ping", Public, json!(null)),
        route("GET", "/health", Public, json!(null)),
        route("GET", "/healthz", Public, json!(null)),
        route("GET", "/readyz", Public, json!(null)),
        route("GET", "/metrics", Public, json!(null)),
        route("POST", "/login", Public, json!({"username": "absent-1", "password": "x"})),
        route("POST", "/api/logout", User, json!(null)),
        route("GET", "/api/users", User, json!(null)),
        route("POST", "/api/users", SystemAdmin, json!({"username": "absent-1", "password": "Opspassw0rd"})),
        route(
            "PATCH",
            "/api/users/password",
            User,
            json!({"current_password": "x", "new_password": "Opspassw0rd"}),
        ),
        route("GET", "/api/users/{username}", User, json!(null)),
        route("DELETE", "/api/users/{username}", SystemAdmin, json!(null)),
        route("PATCH", "/api/users/{username}/password", SystemAdmin, json!({"new_password": "Opspassw0rd"})),
        route("GET", "/api/groups", User, json!(null)),
        route("POST", "/api/groups/sync", User, group),
        route("POST", "/api/groups/satellite", User, member.clone()),
        route("DELETE", "/api/groups/satellite", User, member),
        route("GET", "/api/groups/{group}", User, json!(null)),
        route("DELETE", "/api/groups/{group}", SystemAdmin, json!(null)),
        route("GET", "/api/groups/{group}/satellites", User, json!(null)),
        route("GET", "/api/groups/{group}/state", User, json!(null)),
        route("PUT", "/api/groups/{group}/selector", User, json!({"selector": "site=absent-1"})),
        route("GET", "/api/configs", User, json!(null)),
        route(
            "POST",
            "/api/configs",
            User,
            json!({"config_name": "absent-1", "registry": "", "config": config}),
        ),
        route(
            "POST",
            "/api/configs/satellite",
            User,
            json!({"satellite": "absent-1", "config_name": "absent-1"}),
        ),
        route("GET", "/api/configs/{config}", User, json!(null)),
        route("PATCH", "/api/configs/{config}", User, config),
        route("DELETE", "/api/configs/{config}", User, json!(null)),
        route("GET", "/api/satellites", User, json!(null)),
        route(
            "POST",
            "/api/satellites",
            User,
            json!({"name": "absent-1", "groups": ["absent-1"], "config_name": "absent-1"}),
        ),
        route("GET", "/api/satellites/active", User, json!(null)),
        route("GET", "/api/satellites/stale", User, json!(null)),
        route(
            "POST",
            "/api/satellites/register",
            SystemAdmin,
            json!({"satellite_name": "absent-1", "region": "", "selectors": ["unix:uid:0"], "attestation_method": "join_token"}),
        ),
        route("GET", "/api/satellites/{satellite}", User, json!(null)),
        route("DELETE", "/api/satellites/{satellite}", User, json!(null)),
        route("GET", "/api/satellites/{satellite}/status", User, json!(null)),
        route("GET", "/api/satellites/{satellite}/images", User, json!(null)),
        route("PATCH", "/api/satellites/{satellite}/labels", User, json!({"site": "absent-1"})),
        route("POST", "/api/satellites/{satellite}/token", User, json!(null)),
        route("POST", "/api/satellites/{satellite}/suspend", User, json!(null)),
        route("POST", "/api/satellites/{satellite}/resume", User, json!(null)),
        route("POST", "/api/satellites/{satellite}/revoke", User, json!(null)),
        route("POST", "/api/satellites/{satellite}/rotate", User, json!(null)),
        route("GET", "/api/spire/status", SystemAdmin, json!(null)),
        route("GET", "/api/spire/agents", SystemAdmin, json!(null)),
        route("GET", "/api/satellites/{satellite}/history", User, json!(null)),
        route("GET", "/api/satellites/{satellite}/events", User, json!(null)),
        route("GET", "/api/satellites/{satellite}/health", User, json!(null)),
        route("GET", "/api/images/lacking", User, json!(null)),
        route("GET", "/api/images/holding", User, json!(null)),
        route("GET", "/api/outbox", User, json!(null)),
        route("POST", "/api/outbox/retry", SystemAdmin, json!(null)),
        route("GET", "/api/audit", SystemAdmin, json!(null)),
        route("POST", "/satellites/credentials", Satellite, json!(null)),
        route("GET", "/satellites/ztr/{token}", Public, json!(null)),
        route("POST", "/satellites/enroll/challenge", Public, json!({"name": "absent-1"})),
        route(
            "POST",
            "/satellites/enroll",
            Public,
            json!({"name": "absent-1", "nonce": "n", "signature": "s"}),
        ),
        route("GET", "/satellites/spiffe-ztr", Certificate, json!(null)),
        route("POST", "/satellites/sync", Satellite, satellite_tests::ground_control::heartbeat("absent-1")),
    ]
}
