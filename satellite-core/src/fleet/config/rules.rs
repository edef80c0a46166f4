//! What fields ask of each other.

use serde_json::Value;

use super::{Problem, Severity, at};

pub(super) fn check(config: &Value, found: &mut Vec<Problem>) {
    let text = |path: &str| at(config, path).and_then(Value::as_str).filter(|t| !t.is_empty());
    let flag = |path: &str| at(config, path).and_then(Value::as_bool).unwrap_or(false);
    let mut add = |field: &str, problem: &str, severity| {
        found.push(Problem { field: field.into(), problem: problem.into(), severity });
    };
    if flag("app_config.bring_own_registry") && text("app_config.local_registry.url").is_none() {
        add(
            "app_config.local_registry.url",
            "must be set where bring_own_registry is true",
            Severity::Refused,
        );
    }
    let (cert, key) = ("app_config.tls.cert_file", "app_config.tls.key_file");
    match (text(cert), text(key)) {
        (Some(_), None) => add(key, "must be set where cert_file is", Severity::Refused),
        (None, Some(_)) => add(cert, "must be set where key_file is", Severity::Refused),
        _ => {}
    }
    if flag("app_config.audit.enabled") {
        let otel = flag("app_config.audit.otel.enabled");
        if otel && text("app_config.audit.otel.endpoint").is_none() {
            add("app_config.audit.otel.endpoint", "must be set where otel is enabled", Severity::Refused);
        }
        let network = text("app_config.audit.syslog.target") == Some("network");
        if network && text("app_config.audit.syslog.address").is_none() {
            add("app_config.audit.syslog.address", "must be set for the target network", Severity::Refused);
        }
    }
}
