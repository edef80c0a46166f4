//! The known fields, and what each may hold.

use cronexpr::{FallbackTimezoneOption, ParseOptions, normalize_crontab, parse_crontab_with};
use serde_json::Value;
use url::Url;

use super::Severity;
use crate::fleet::Interval;

/// Longest text that is taken for a field.
const MAX_TEXT: usize = 4096;
/// Longest list.
const MAX_LIST: usize = 1000;
/// Longest line of cron, in bytes.
const MAX_CRON: usize = 200;

/// What a field holds.
pub(super) enum Kind {
    /// An object, printed although empty.
    Object,
    /// An object passed on as it is, and left out when it is not set.
    Raw,
    Text,
    /// `false` means not set.
    Flag,
    /// `false` is a choice.
    Choice,
    /// 0 and up; 0 is a choice.
    Count,
    Url,
    Interval,
    /// An interval, or five fields of cron.
    Schedule,
    Port,
    /// One of these words. How bad another one is, and whether case matters not.
    Word(&'static [&'static str], Severity, bool),
    List,
    Words(&'static [&'static str]),
}

const LEVELS: &[&str] = &["debug", "info", "warn", "error", "fatal", "panic"];
const RUNTIMES: &[&str] = &["docker", "containerd", "crio", "podman"];

/// Parents before children.
pub(super) const FIELDS: &[(&str, Kind)] = &[
    ("state_config", Kind::Object),
    ("state_config.auth", Kind::Object),
    ("state_config.auth.url", Kind::Url),
    ("state_config.auth.username", Kind::Text),
    ("state_config.auth.password", Kind::Text),
    ("state_config.state", Kind::Text),
    ("app_config", Kind::Object),
    ("app_config.ground_control_url", Kind::Url),
    ("app_config.log_level", Kind::Word(LEVELS, Severity::Ignored, true)),
    ("app_config.use_unsecure", Kind::Flag),
    ("app_config.state_replication_interval", Kind::Schedule),
    ("app_config.register_satellite_interval", Kind::Interval),
    ("app_config.heartbeat_interval", Kind::Interval),
    ("app_config.metrics", Kind::Object),
    ("app_config.metrics.collect_cpu", Kind::Flag),
    ("app_config.metrics.collect_memory", Kind::Flag),
    ("app_config.metrics.collect_storage", Kind::Flag),
    ("app_config.bring_own_registry", Kind::Flag),
    ("app_config.local_registry", Kind::Object),
    ("app_config.local_registry.url", Kind::Url),
    ("app_config.local_registry.username", Kind::Text),
    ("app_config.local_registry.password", Kind::Text),
    ("app_config.tls", Kind::Object),
    ("app_config.tls.cert_file", Kind::Text),
    ("app_config.tls.key_file", Kind::Text),
    ("app_config.tls.ca_file", Kind::Text),
    ("app_config.tls.skip_verify", Kind::Flag),
    ("app_config.spiffe", Kind::Object),
    ("app_config.spiffe.enabled", Kind::Flag),
    ("app_config.spiffe.endpoint_socket", Kind::Text),
    ("app_config.spiffe.expected_server_id", Kind::Text),
    ("app_config.encrypt_config", Kind::Flag),
    ("app_config.registry_fallback", Kind::Object),
    ("app_config.registry_fallback.enabled", Kind::Flag),
    ("app_config.registry_fallback.registries", Kind::List),
    ("app_config.registry_fallback.runtimes", Kind::Words(RUNTIMES)),
    ("app_config.harbor_registry_url", Kind::Url),
    ("app_config.direct_delivery", Kind::Object),
    ("app_config.direct_delivery.enabled", Kind::Flag),
    ("app_config.direct_delivery.image_dir", Kind::Text),
    ("app_config.audit", Kind::Object),
    ("app_config.audit.enabled", Kind::Flag),
    ("app_config.audit.syslog", Kind::Object),
    ("app_config.audit.syslog.enabled", Kind::Choice),
    ("app_config.audit.syslog.target", Kind::Word(&["file", "daemon", "network"], Severity::Ignored, false)),
    ("app_config.audit.syslog.tag", Kind::Text),
    ("app_config.audit.syslog.socket_path", Kind::Text),
    ("app_config.audit.syslog.network", Kind::Word(&["udp", "tcp"], Severity::Ignored, false)),
    ("app_config.audit.syslog.address", Kind::Text),
    ("app_config.audit.syslog.file", Kind::Object),
    ("app_config.audit.syslog.file.path", Kind::Text),
    ("app_config.audit.syslog.file.max_size_mb", Kind::Count),
    ("app_config.audit.syslog.file.max_backups", Kind::Count),
    ("app_config.audit.syslog.file.max_age_days", Kind::Count),
    ("app_config.audit.syslog.file.compress", Kind::Choice),
    ("app_config.audit.otel", Kind::Object),
    ("app_config.audit.otel.enabled", Kind::Flag),
    ("app_config.audit.otel.endpoint", Kind::Text),
    ("zot_config", Kind::Raw),
    ("zot_config.http.address", Kind::Text),
    ("zot_config.http.port", Kind::Port),
];

impl Kind {
    /// # Errors
    /// How bad it is, and what is expected.
    pub(super) fn check(&self, value: &Value) -> Result<(), (Severity, String)> {
        let wrong_type = |what: &str| (Severity::Type, format!("must be {what}"));
        match self {
            Self::Object | Self::Raw => value.as_object().map(drop).ok_or_else(|| wrong_type("an object")),
            Self::Flag | Self::Choice => value.as_bool().map(drop).ok_or_else(|| wrong_type("true or false")),
            Self::Count => match value.as_i64() {
                Some(n) if n >= 0 => Ok(()),
                Some(_) => Err((Severity::Ignored, "must be 0 or more".into())),
                None => Err(wrong_type("a whole number")),
            },
            Self::List | Self::Words(_) => self.check_list(value),
            _ => {
                let text = value.as_str().ok_or_else(|| wrong_type("a text"))?;
                if text.is_empty() { Ok(()) } else { self.check_text(text) }
            }
        }
    }

    fn check_text(&self, text: &str) -> Result<(), (Severity, String)> {
        if text.len() > MAX_TEXT {
            return Err((Severity::Refused, format!("must have {MAX_TEXT} bytes at most")));
        }
        let expected = match self {
            Self::Url if !is_http_url(text) => {
                (Severity::Refused, "must be a URL, as in https://harbor.example".to_string())
            }
            Self::Interval if text.parse::<Interval>().is_err() => (
                Severity::Ignored,
                "must be @every and a duration of whole seconds, as in @every 00h00m30s".into(),
            ),
            Self::Schedule if text.parse::<Interval>().is_err() && !is_cron(text) => (
                Severity::Ignored,
                "must be @every and a duration of whole seconds, as in @every 00h00m30s, or five fields of cron".into(),
            ),
            Self::Port if !text.parse::<u16>().is_ok_and(|p| p > 0) => {
                (Severity::Refused, "must be a port as a text, as in \"8585\"".into())
            }
            Self::Word(words, severity, any_case) if !is_one_of(words, text, *any_case) => {
                (*severity, format!("must be one of {}", words.join(", ")))
            }
            _ => return Ok(()),
        };
        Err(expected)
    }

    fn check_list(&self, value: &Value) -> Result<(), (Severity, String)> {
        let wrong = || (Severity::Type, "must be a list of texts".to_string());
        let items = value.as_array().ok_or_else(wrong)?;
        if items.len() > MAX_LIST {
            return Err((Severity::Refused, format!("must have {MAX_LIST} entries at most")));
        }
        for item in items {
            let text = item.as_str().ok_or_else(wrong)?;
            match self {
                _ if text.trim().is_empty() => {
                    return Err((Severity::Ignored, "must not have empty entries".into()));
                }
                Self::Words(words) if !is_one_of(words, text, false) => {
                    return Err((Severity::Ignored, format!("must be of {}", words.join(", "))));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the reference would not print it.
    pub(super) fn is_unset(&self, value: &Value) -> bool {
        match self {
            _ if value.is_null() => true,
            Self::Object | Self::Raw | Self::Choice | Self::Count => false,
            Self::Flag => value == &Value::Bool(false),
            Self::List | Self::Words(_) => value.as_array().is_some_and(Vec::is_empty),
            // What zot_config holds is passed on as it is.
            Self::Port => false,
            _ => value.as_str().is_some_and(str::is_empty),
        }
    }
}

fn is_one_of(words: &[&str], text: &str, any_case: bool) -> bool {
    words.iter().any(|w| *w == text || any_case && w.eq_ignore_ascii_case(text))
}

fn is_http_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Five fields that name a time which comes. The time zone is whoever runs it's.
fn is_cron(text: &str) -> bool {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    text.len() <= MAX_CRON
        && text.split_whitespace().count() == 5
        && parse_crontab_with(&normalize_crontab(text), options)
            .is_ok_and(|crontab| crontab.find_next("2026-01-01T00:00:00Z").is_ok())
}
