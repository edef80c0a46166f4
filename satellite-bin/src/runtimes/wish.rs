//! What is wanted.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// Most registries of a runtime.
const MAX_UPSTREAMS: usize = 200;

/// A runtime that can be pointed at a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// containerd, as Kubernetes and nerdctl use it.
    Containerd,
    /// dockerd.
    Docker,
    /// Podman, Buildah and Skopeo.
    Podman,
    /// CRI-O, which reads the same files as Podman.
    Crio,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
}

impl Kind {
    /// All, in the order they are spoken of.
    pub const ALL: [Self; 6] =
        [Self::Containerd, Self::Docker, Self::Podman, Self::Crio, Self::K3s, Self::Rke2];

    /// As it is spelled on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Crio => "crio",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = WishError;

    fn from_str(text: &str) -> Result<Self, WishError> {
        let found =
            Self::ALL.into_iter().find(|kind| kind.name() == text || text == "cri-o" && *kind == Self::Crio);
        found.ok_or_else(|| WishError::Runtime(text.chars().take(100).collect()))
    }
}

/// What was asked for cannot be meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// Not `RUNTIME:REGISTRY[,REGISTRY…]`.
    #[error("{0:?}: write RUNTIME:REGISTRY[,REGISTRY…], as in containerd:docker.io,quay.io, or docker:true")]
    Syntax(String),
    /// No such runtime.
    #[error("there is no runtime {0:?}: containerd, docker, podman, crio, k3s and rke2 are known")]
    Runtime(String),
    /// No registry's name.
    #[error("{0:?} is no registry: write HOST or HOST:PORT")]
    Registry(String),
    /// No address of a mirror.
    #[error("{0:?} is no address of a satellite: write http://HOST:PORT or https://HOST:PORT")]
    Mirror(String),
    /// Too much.
    #[error("more than {MAX_UPSTREAMS} registries for {0}")]
    TooMany(Kind),
}

/// Where the satellite is, as runtimes reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    https: bool,
    address: String,
    /// The authority that vouches for it (PEM), if the system's do not.
    pub ca: Option<PathBuf>,
}

impl Mirror {
    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.address)
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it is spoken to in the clear.
    pub fn is_plain(&self) -> bool {
        !self.https
    }

    /// Whether it is on the machine itself.
    pub fn is_loopback(&self) -> bool {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for Mirror {
    type Err = WishError;

    /// An address that is listened on everywhere is reached at loopback.
    fn from_str(text: &str) -> Result<Self, WishError> {
        let wrong = || WishError::Mirror(text.chars().take(200).collect());
        let (https, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(wrong()),
            None => (false, text),
        };
        let address = rest.trim_end_matches('/');
        let address = match address.strip_prefix("0.0.0.0:").or_else(|| address.strip_prefix("[::]:")) {
            Some(port) => format!("127.0.0.1:{port}"),
            None => address.to_string(),
        };
        if !is_host(&address) {
            return Err(wrong());
        }
        Ok(Self { https, address, ca: None })
    }
}

/// HOST or HOST:PORT, in characters that need no quoting in any of the files they go into.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let label = |l: &str| {
        let bytes = l.as_bytes();
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        ends(bytes.first())
            && ends(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0))
        && text.len() <= 253
        && v6.map_or_else(|| host.split('.').all(label), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Which runtimes go to the satellite for which registries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Where the satellite is.
    pub mirror: Mirror,
    /// Registries (`docker.io`, `registry.test:5000`) by runtime, each once, in the order given.
    pub upstreams: BTreeMap<Kind, Vec<String>>,
    /// Never go to the registry itself, where the runtime can be told so (Podman, CRI-O).
    pub offline: bool,
    /// Turn containerd's older `registry.mirrors` into `hosts.toml` files.
    pub convert_legacy: bool,
}

impl Wish {
    /// Nothing yet.
    pub fn new(mirror: Mirror) -> Self {
        Self { mirror, upstreams: BTreeMap::new(), offline: false, convert_legacy: false }
    }

    /// Adds `RUNTIME:REGISTRY[,REGISTRY…]`. `docker:true` means docker.io, `docker:false` nothing.
    pub fn add(&mut self, text: &str) -> Result<(), WishError> {
        let wrong = || WishError::Syntax(text.chars().take(300).collect());
        let (runtime, registries) = text.split_once(':').ok_or_else(wrong)?;
        let kind: Kind = runtime.trim().parse()?;
        match (kind, registries.trim()) {
            (_, "") => Err(wrong()),
            (Kind::Docker, "false") => Ok(()),
            (Kind::Docker, "true") => self.add_registry(kind, "docker.io"),
            (_, list) => list.split(',').try_for_each(|registry| self.add_registry(kind, registry.trim())),
        }
    }

    /// Adds a registry for a runtime.
    pub fn add_registry(&mut self, kind: Kind, registry: &str) -> Result<(), WishError> {
        let registry = registry.to_ascii_lowercase();
        let registry = match registry.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".into(),
            _ => registry,
        };
        if !is_host(&registry) {
            return Err(WishError::Registry(registry.chars().take(200).collect()));
        }
        let list = self.upstreams.entry(kind).or_default();
        if !list.contains(&registry) {
            list.push(registry);
        }
        if list.len() > MAX_UPSTREAMS { Err(WishError::TooMany(kind)) } else { Ok(()) }
    }
}
