//! What holds: every part of the agent reads its settings here, and nowhere else.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use log::LevelFilter;
use satellite_core::remote::Secret;
use url::Url;

use super::edge::Edge;
use crate::{
    agent::{center::Address, schedule::Schedule},
    runtimes::Kind,
};

/// The effective settings: flags over environment over file over default, checked as a whole. They never change; others
/// take their place.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Ground Control.
    pub ground_control: Url,
    /// Whether plain HTTP to others than this machine is allowed.
    pub use_unsecure: bool,
    /// Least serious log lines that are written.
    pub log_level: LevelFilter,
    /// When the state is looked at.
    pub replicate: Schedule,
    /// How often registration is tried.
    pub register: Schedule,
    /// When reports go out.
    pub heartbeat: Schedule,
    /// What is measured for reports.
    pub collect: Collect,
    /// Files for TLS with Ground Control.
    pub tls: TlsFiles,
    /// Registration by certificate.
    pub spiffe: Spiffe,
    /// Scheme, host and port that take the place of those in every address of the registry.
    pub harbor: Option<Url>,
    /// Where images go.
    pub registry: RegistryMode,
    /// Which runtimes are pointed at the satellite.
    pub fallback: Fallback,
    /// Whether images also go into an import directory of k3s or RKE2.
    pub delivery: Delivery,
    /// The audit log.
    pub audit: Audit,
    /// Whether files with secrets are encrypted. `false` only where the configuration says so.
    pub encrypt: bool,
    /// What the reference has not: `app_config.satellite`.
    pub edge: Edge,
}

impl Settings {
    /// The store's directory; `dir` is where the configuration is.
    pub fn store_dir(&self, dir: &Path) -> PathBuf {
        match &self.registry {
            RegistryMode::Embedded(own) => own.data_dir.clone(),
            RegistryMode::Own(_) => dir.join("spool"),
        }
    }

    /// How Ground Control is spoken to.
    pub fn address(&self) -> Address {
        let identity = match (&self.tls.cert, &self.tls.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            _ => None,
        };
        let mut address = Address {
            url: self.ground_control.clone(),
            use_unsecure: self.use_unsecure,
            ca: self.tls.ca.clone(),
            identity,
            server_id: None,
        };
        if let Some(svid) = &self.spiffe.files {
            address.ca = svid.bundle.clone();
            address.identity = Some((svid.cert.clone(), svid.key.clone()));
            address.server_id = self.spiffe.expected_server_id.clone();
        }
        address
    }

    /// Names the parts in which this differs from `other`, as the configuration spells them.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("ground_control_url", self.ground_control == other.ground_control),
            ("use_unsecure", self.use_unsecure == other.use_unsecure),
            ("log_level", self.log_level == other.log_level),
            ("state_replication_interval", self.replicate == other.replicate),
            ("register_satellite_interval", self.register == other.register),
            ("heartbeat_interval", self.heartbeat == other.heartbeat),
            ("metrics", self.collect == other.collect),
            ("tls", self.tls == other.tls),
            ("spiffe", self.spiffe == other.spiffe),
            ("harbor_registry_url", self.harbor == other.harbor),
            ("registry", self.registry == other.registry),
            ("registry_fallback", self.fallback == other.fallback),
            ("direct_delivery", self.delivery == other.delivery),
            ("audit", self.audit == other.audit),
            ("encrypt_config", self.encrypt == other.encrypt),
            ("satellite", self.edge == other.edge),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}

/// What is measured for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collect {
    /// Load of the processors.
    pub cpu: bool,
    /// Memory in use.
    pub memory: bool,
    /// Disk in use.
    pub storage: bool,
}

/// Files for TLS with Ground Control (PEM).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate to show; never without key.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// A further authority.
    pub ca: Option<PathBuf>,
    /// Asked for, and not done: certificates are always verified.
    pub skip_verify: bool,
}

/// Registration by a certificate of SPIFFE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spiffe {
    /// The files, where it is on.
    pub files: Option<SvidFiles>,
    /// SPIFFE ID that Ground Control must show.
    pub expected_server_id: Option<String>,
}

/// An SVID and what to trust, as files that something else keeps fresh (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvidFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The trust bundle.
    pub bundle: Option<PathBuf>,
}

/// Where images go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryMode {
    /// Into the store, served by this process.
    Embedded(Embedded),
    /// Into a registry of the user's own.
    Own(OwnRegistry),
}

/// The registry in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Where it listens. What changes this or the directory is heeded at the next start.
    pub listen: SocketAddr,
    /// The store.
    pub data_dir: PathBuf,
    /// Time between collections of garbage; `None`: never.
    pub gc_interval: Option<Duration>,
    /// What is younger is no garbage.
    pub gc_delay: Duration,
}

/// A registry of the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRegistry {
    /// Where it is.
    pub url: Url,
    /// Its user, if it has some.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
}

/// Which runtimes are pointed at the satellite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// None; what was done before stays.
    Off,
    /// These registries, for each of these runtimes; without any: for all that are here.
    Registries {
        /// `docker.io`, `quay.io`.
        registries: Vec<String>,
        /// Which; empty: all that are found.
        runtimes: Vec<Kind>,
    },
    /// As on the command line: `containerd:docker.io,quay.io`.
    Mirrors(Vec<String>),
}

/// Whether images also go into an import directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// No.
    Off,
    /// Into the first of k3s' and RKE2's that exists.
    Found,
    /// Into this one.
    Into(PathBuf),
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Whether there is one.
    pub enabled: bool,
    /// To a file or syslog; `None`: switched off.
    pub syslog: Option<Syslog>,
    /// OpenTelemetry's collector, where that is on.
    pub otel: Option<String>,
}

/// Where audit lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Which kind.
    pub target: AuditTarget,
    /// The program's name in each line.
    pub tag: String,
}

/// Where audit lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// A file that is turned over.
    File {
        /// Its path.
        path: PathBuf,
        /// Turned over at this size, in bytes.
        max_size: u64,
        /// Old ones kept; 0: all.
        max_backups: u32,
        /// Days that old ones are kept; 0: for ever.
        max_age_days: u32,
        /// Whether old ones are compressed.
        compress: bool,
    },
    /// The machine's syslog daemon.
    Daemon {
        /// Its socket.
        socket: PathBuf,
    },
    /// A syslog server.
    Network {
        /// Over TCP, else UDP.
        tcp: bool,
        /// HOST:PORT.
        address: String,
    },
}
