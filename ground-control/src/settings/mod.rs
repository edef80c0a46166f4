//! What the server is told: flags over environment over a `.env` file over defaults.
//!
//! The environment variables are the reference's, and mean the same; ours beside them have the same style.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, time::Duration};

use satellite_core::remote::Secret;

mod duration;
mod env;

pub use duration::parse as parse_duration;
pub use env::Environment;

/// Port of the API, unless told otherwise.
pub const PORT: u16 = 9090;

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct SettingError {
    name: String,
    problem: String,
}

impl SettingError {
    /// Of the setting `name`.
    pub fn new(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { name: name.into(), problem: problem.into() }
    }
}

/// Rules for passwords of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Bytes at least.
    pub min: usize,
    /// Bytes at most.
    pub max: usize,
    /// An upper-case letter.
    pub upper: bool,
    /// A lower-case letter.
    pub lower: bool,
    /// A digit.
    pub number: bool,
    /// Something that is neither letter nor digit.
    pub special: bool,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self { min: 8, max: 128, upper: true, lower: true, number: true, special: false }
    }
}

/// Which registry is central.
#[derive(Clone, Debug)]
pub enum CentralSettings {
    /// The one in this process.
    Embedded,
    /// A Harbor.
    Harbor {
        /// Scheme and host.
        url: String,
        /// An account that may make robots and projects.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// Any registry, with credentials that all satellites share.
    Plain {
        /// Scheme and host.
        url: String,
        /// With which states are pushed.
        push: Option<(String, Secret)>,
        /// What satellites are given to pull with.
        pull: Option<(String, Secret)>,
    },
}

/// TLS files.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// The chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// Everybody must show one.
    pub required: bool,
}

/// Where audit events go beside the database.
#[derive(Clone, Debug, Default)]
pub struct AuditSettings {
    /// A file of JSON lines, rotated at this many bytes, keeping so many old ones.
    pub file: Option<(PathBuf, u64, usize)>,
    /// A syslog daemon's socket.
    pub socket: Option<PathBuf>,
    /// A syslog server, and whether by TCP.
    pub network: Option<(String, bool)>,
    /// The program's name in syslog.
    pub tag: String,
    /// Whether `X-Forwarded-For` says where a request came from.
    pub trust_forwarded: bool,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the embedded database and registry are.
    pub data_dir: PathBuf,
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// `postgres://…` or `sqlite:…`
    pub database_url: Secret,
    /// Whether that is the default in the data directory.
    pub database_is_default: bool,
    /// Most connections to it.
    pub database_connections: u32,
    /// The registry behind it all.
    pub central: CentralSettings,
    /// Certification authorities trusted beside the system's for that registry.
    pub central_ca: Vec<PathBuf>,
    /// What satellites are told the embedded registry's address is.
    pub public_url: Option<String>,
    /// For the first administrator, where there is none.
    pub admin_password: Option<Secret>,
    /// Of a session.
    pub session: Duration,
    /// Of a lockout.
    pub lockout: Duration,
    /// Failures that lock.
    pub lockout_after: i64,
    /// Rules for passwords.
    pub policy: PasswordPolicy,
    /// Life of robots, in days.
    pub robot_days: u32,
    /// Life of a token.
    pub token: Duration,
    /// How long a token may be exchanged once more if its secret was not used.
    pub token_retry: Duration,
    /// What a process that died worked on at central is taken over after so long.
    pub outbox_lease: Duration,
    /// A token's exchange whose process died may be tried again after so long.
    pub token_claim: Duration,
    /// A connection on which no further request begins is closed after so long, 15 seconds at most.
    pub idle: Duration,
    /// A satellite unseen for longer is offline.
    pub offline_after: Duration,
    /// HTTPS.
    pub tls: Option<TlsSettings>,
    /// The trust domain of SPIFFE ids, where certificates name satellites.
    pub spiffe_domain: Option<String>,
    /// Requests a minute of a satellite; 0: no limit.
    pub satellite_limit: u32,
    /// Wrong logins a minute for a name from one address.
    pub login_limit: i64,
    /// Connections open at once.
    pub connections: usize,
    /// Threads that answer.
    pub threads: usize,
    /// How long status history and unused images stay.
    pub keep_history: Duration,
    /// How long audit events stay.
    pub keep_audit: Duration,
    /// Audit.
    pub audit: AuditSettings,
    /// What the server keys its digests with; made and kept in the database where none is given.
    pub secret_key: Option<Secret>,
}

/// What flags say, each over the environment.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--listen`
    pub listen: Vec<SocketAddr>,
    /// `--database-url`
    pub database_url: Option<String>,
}

impl Settings {
    /// Puts it all together.
    ///
    /// # Errors
    /// The first value that cannot be used, by its name. An empty variable is as good as none.
    pub fn new(flags: &Flags, env: &Environment) -> Result<Self, SettingError> {
        let data_dir = flags.data_dir.clone().or_else(|| env.get("DATA_DIR").map(Into::into));
        let data_dir = data_dir.unwrap_or_else(default_data_dir);
        let url =
            flags.database_url.clone().or_else(|| env.get("DATABASE_URL")).or_else(|| database_of_parts(env));
        let database_is_default = url.is_none();
        let url = url.unwrap_or_else(|| crate::db::Db::sqlite_url(&data_dir.join("ground-control.db")));
        let policy = policy(env)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            listen: listen(flags, env)?,
            database_url: Secret::new(url),
            database_is_default,
            database_connections: env.number("DB_MAX_CONNECTIONS", 10)?.clamp(2, 1000),
            central: central(env)?,
            central_ca: env.get("REGISTRY_CA_FILE").map(PathBuf::from).into_iter().collect(),
            public_url: env.get("PUBLIC_URL").map(|u| u.trim_end_matches('/').to_string()),
            admin_password: env.get("ADMIN_PASSWORD").map(Secret::new),
            session: env.duration("SESSION_DURATION", Duration::from_secs(24 * 3600))?,
            lockout: env.duration("LOCKOUT_DURATION", Duration::from_secs(300))?,
            lockout_after: env.number("LOCKOUT_AFTER", 5)?.max(1),
            policy,
            robot_days: match env.get("ROBOT_DURATION_DAYS").and_then(|t| t.parse().ok()) {
                Some(days) if days > 0 => days,
                _ => 30,
            },
            token: env.duration("TOKEN_DURATION", Duration::from_secs(24 * 3600))?,
            token_retry: env.duration("TOKEN_RETRY_WINDOW", Duration::from_secs(120))?,
            outbox_lease: env
                .duration("OUTBOX_LEASE", Duration::from_secs(15))?
                .clamp(Duration::from_millis(300), Duration::from_secs(300)),
            token_claim: env.duration("TOKEN_CLAIM", Duration::from_secs(60))?,
            idle: env.duration("IDLE_TIMEOUT", Duration::from_secs(1))?,
            offline_after: env.duration("STALE_THRESHOLD", Duration::from_secs(3600))?,
            tls: tls(env)?,
            spiffe_domain: env
                .flag("SPIFFE_SERVER_ENABLED", false)?
                .then(|| env.get("SPIFFE_TRUST_DOMAIN").unwrap_or_else(|| "harbor-satellite.local".into())),
            satellite_limit: env.number("SATELLITE_REQUESTS_PER_MINUTE", 600)?,
            login_limit: env.number("LOGIN_FAILURES_PER_MINUTE", 10)?,
            connections: env.number("MAX_CONNECTIONS", 1500)?,
            threads: env.number("THREADS", cores.min(4))?.clamp(1, 64),
            keep_history: env.duration("STATUS_RETENTION", Duration::from_secs(7 * 86_400))?,
            keep_audit: env.duration("AUDIT_RETENTION", Duration::from_secs(90 * 86_400))?,
            audit: audit(env)?,
            secret_key: env.secret("SECRET_KEY")?,
            data_dir,
        })
    }
}

fn default_data_dir() -> PathBuf {
    match std::env::var_os("HOME").filter(|h| !h.is_empty()) {
        Some(home) if !rustix::process::geteuid().is_root() => {
            PathBuf::from(home).join(".local/share/ground-control")
        }
        _ => "/var/lib/ground-control".into(),
    }
}

fn listen(flags: &Flags, env: &Environment) -> Result<Vec<SocketAddr>, SettingError> {
    if !flags.listen.is_empty() {
        return Ok(flags.listen.clone());
    }
    if let Some(text) = env.get("LISTEN") {
        let bad = |_| SettingError::new("LISTEN", format!("{text:?} is no address: expected ADDR:PORT"));
        return text.split(',').map(|part| part.trim().parse().map_err(bad)).collect();
    }
    let port = env.number("PORT", PORT)?;
    // The reference listens on all addresses; so does PORT, and without it only this machine is served.
    let host = if env.get("PORT").is_some() { [0, 0, 0, 0] } else { [127, 0, 0, 1] };
    Ok(vec![SocketAddr::from((host, port))])
}

/// `DB_HOST` and its like, as the reference has them.
fn database_of_parts(env: &Environment) -> Option<String> {
    let host = env.get("DB_HOST")?;
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let port = env.get("DB_PORT").unwrap_or_else(|| "5432".into());
    let user = encode(&env.get("DB_USERNAME").unwrap_or_else(|| "postgres".into()));
    let password = env.get("DB_PASSWORD").map(|p| format!(":{}", encode(&p))).unwrap_or_default();
    let database = encode(&env.get("DB_DATABASE").unwrap_or_else(|| "groundcontrol".into()));
    let mode = env.get("DB_SSLMODE").unwrap_or_else(|| "disable".into());
    Some(format!("postgres://{user}{password}@{host}:{port}/{database}?sslmode={mode}"))
}

fn policy(env: &Environment) -> Result<PasswordPolicy, SettingError> {
    let default = PasswordPolicy::default();
    let size = |name, default: usize| {
        env.number::<i64>(name, 0).map(|n| usize::try_from(n).ok().filter(|n| *n > 0).unwrap_or(default))
    };
    let min = size("PASSWORD_MIN_LENGTH", default.min)?;
    Ok(PasswordPolicy {
        min,
        max: size("PASSWORD_MAX_LENGTH", default.max)?.max(min),
        upper: env.flag("PASSWORD_REQUIRE_UPPERCASE", default.upper)?,
        lower: env.flag("PASSWORD_REQUIRE_LOWERCASE", default.lower)?,
        number: env.flag("PASSWORD_REQUIRE_NUMBER", default.number)?,
        special: env.flag("PASSWORD_REQUIRE_SPECIAL", default.special)?,
    })
}

fn central(env: &Environment) -> Result<CentralSettings, SettingError> {
    if let Some(url) = env.get("HARBOR_URL") {
        let url = registry_url("HARBOR_URL", &url)?;
        let needed = |name: &str| {
            env.secret(name)?.ok_or_else(|| SettingError::new(name, "is needed with HARBOR_URL"))
        };
        let username = needed("HARBOR_USERNAME")?.expose().to_string();
        return Ok(CentralSettings::Harbor { url, username, password: needed("HARBOR_PASSWORD")? });
    }
    let Some(url) = env.get("REGISTRY_URL") else { return Ok(CentralSettings::Embedded) };
    let url = registry_url("REGISTRY_URL", &url)?;
    let login = |user: &str, password: &str| -> Result<Option<(String, Secret)>, SettingError> {
        match (env.get(user), env.secret(password)?) {
            (Some(user), Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            _ => Err(SettingError::new(user, format!("goes together with {password}"))),
        }
    };
    let push = login("REGISTRY_USERNAME", "REGISTRY_PASSWORD")?;
    let pull = login("REGISTRY_PULL_USERNAME", "REGISTRY_PULL_PASSWORD")?;
    Ok(CentralSettings::Plain { url, push, pull })
}

fn registry_url(name: &str, text: &str) -> Result<String, SettingError> {
    let text = text.trim_end_matches('/');
    let bad = || SettingError::new(name, "must be a URL with scheme and host, as in https://harbor.example");
    let url = url::Url::parse(text).map_err(|_| bad())?;
    let good = matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/";
    if !good || url.password().is_some() || !url.username().is_empty() || url.query().is_some() {
        return Err(bad());
    }
    Ok(text.into())
}

fn tls(env: &Environment) -> Result<Option<TlsSettings>, SettingError> {
    let spiffe = env.flag("SPIFFE_SERVER_ENABLED", false)?;
    let file = |plain: &str, spiffe_name: &str| {
        env.get(plain).or_else(|| spiffe.then(|| env.get(spiffe_name)).flatten()).map(PathBuf::from)
    };
    let ca = env.get("TLS_CA_FILE").map(PathBuf::from);
    match (file("TLS_CERT_FILE", "SPIFFE_CERT_FILE"), file("TLS_KEY_FILE", "SPIFFE_KEY_FILE")) {
        (Some(certificate), Some(key)) => Ok(Some(TlsSettings {
            certificate,
            key,
            required: ca.is_some() && !spiffe,
            client_ca: env.get("SPIFFE_BUNDLE_FILE").filter(|_| spiffe).map(Into::into).or(ca),
        })),
        (None, None) if ca.is_none() && !spiffe => Ok(None),
        (None, None) => Err(SettingError::new(
            "TLS_CERT_FILE",
            "is needed, with TLS_KEY_FILE, for clients to show certificates",
        )),
        _ => Err(SettingError::new("TLS_CERT_FILE", "goes together with TLS_KEY_FILE")),
    }
}

fn audit(env: &Environment) -> Result<AuditSettings, SettingError> {
    let mut settings = AuditSettings {
        tag: env.get("AUDIT_SYSLOG_TAG").unwrap_or_else(|| "harbor-audit".into()),
        trust_forwarded: env.flag("AUDIT_TRUST_FORWARDED_HEADERS", false)?,
        ..AuditSettings::default()
    };
    if !env.flag("AUDIT_LOG_ENABLED", false)? || !env.flag("AUDIT_SYSLOG_ENABLED", true)? {
        return Ok(settings);
    }
    match env.get("AUDIT_SYSLOG_TARGET").as_deref() {
        None | Some("file") => {
            let path = env.get("AUDIT_SYSLOG_FILE_PATH").unwrap_or_else(|| "./audit.log".into());
            let size = env.number::<u64>("AUDIT_SYSLOG_FILE_MAX_SIZE_MB", 100)?.max(1) << 20;
            settings.file = Some((path.into(), size, env.number("AUDIT_SYSLOG_FILE_MAX_BACKUPS", 7)?));
        }
        Some("daemon") => {
            settings.socket =
                Some(env.get("AUDIT_SYSLOG_SOCKET_PATH").unwrap_or_else(|| "/dev/log".into()).into());
        }
        Some("network") => {
            let address = env.get("AUDIT_SYSLOG_ADDRESS");
            let address =
                address.ok_or_else(|| SettingError::new("AUDIT_SYSLOG_ADDRESS", "is needed for network"))?;
            settings.network = Some((address, env.get("AUDIT_SYSLOG_NETWORK").as_deref() == Some("tcp")));
        }
        Some(other) => {
            return Err(SettingError::new(
                "AUDIT_SYSLOG_TARGET",
                format!("{other:?} is not one of file, daemon, network"),
            ));
        }
    }
    Ok(settings)
}

/// For tests and commands: settings from a list of variables.
impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self::new(variables.into_iter().collect::<HashMap<_, _>>())
    }
}

#[cfg(test)]
mod tests;
