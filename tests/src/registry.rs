//! Debian's docker-registry as an upstream: plain, with passwords, with tokens, with TLS.

use crate::certs::Certs;
use crate::dir::Dir;
use crate::http::Client;
use crate::process::{Daemon, run};
use crate::token::TokenService;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

/// The user that registries with passwords know.
pub const USER: &str = "robot$edge";
/// That user's password.
pub const PASSWORD: &str = "pass: w\u{f6}rd/1";

/// How a registry is to be started.
#[derive(Debug, Default)]
pub struct Options {
    /// Every request needs [`USER`] and [`PASSWORD`].
    pub basic: bool,
    /// Every request needs a token, which the service gives to [`USER`] with [`PASSWORD`].
    pub token: bool,
    /// Speaks TLS with a certificate of a private authority.
    pub tls: bool,
    /// Removes nothing, as it is by default.
    pub keeps: bool,
}

/// A running docker-registry with a storage of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Registry {
    daemon: Daemon,
    address: SocketAddr,
    certs: Option<Certs>,
    tokens: Option<TokenService>,
    _dir: Dir,
}

impl Registry {
    /// A plain one: HTTP, no authentication, deletes allowed.
    pub fn start() -> Self {
        Self::with(&Options::default())
    }

    /// True if the program is here.
    pub fn available() -> bool {
        crate::has("docker-registry")
    }

    /// One as the options say.
    pub fn with(options: &Options) -> Self {
        let dir = Dir::new();
        let storage = dir.join("storage");
        let mut yaml = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: {}}}}}\n\
             http:\n  addr: 127.0.0.1:0\n  secret: test\n",
            storage.display(),
            !options.keeps
        );
        let certs = options.tls.then(|| Certs::make(&dir.join("certs")));
        if let Some(certs) = &certs {
            let _ = writeln!(
                yaml,
                "  tls: {{certificate: {}, key: {}}}",
                certs.cert.display(),
                certs.key.display()
            );
        }
        let tokens = options.token.then(|| TokenService::start(&dir.join("tokens"), USER, PASSWORD));
        if let Some(tokens) = &tokens {
            let _ = writeln!(
                yaml,
                "auth: {{token: {{realm: \"{}\", service: test, issuer: test, rootcertbundle: {}}}}}",
                tokens.realm(),
                tokens.certificate().display()
            );
        }
        if options.basic {
            let file = dir.join("htpasswd");
            std::fs::write(&file, htpasswd(USER, PASSWORD)).expect("the password file");
            let _ = writeln!(yaml, "auth: {{htpasswd: {{realm: test, path: {}}}}}", file.display());
        }
        let config = dir.join("registry.yml");
        std::fs::write(&config, yaml).expect("the configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let mut daemon = Daemon::start("docker-registry", &mut command, &dir.join("log"));
        let address = daemon.wait_log(Duration::from_secs(20), |line| {
            let (_, rest) = line.split_once("msg=\"listening on ")?;
            rest.split(['"', ',']).next()?.parse().ok()
        });
        Self { daemon, address, certs, tokens, _dir: dir }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT`, as references have it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A client of it, which knows the password if there is one. Not for TLS, nor for tokens.
    pub fn client(&self) -> Client {
        Client::new(self.address).basic(USER, PASSWORD)
    }

    /// Its certificate and authority, with TLS.
    pub fn certs(&self) -> &Certs {
        self.certs.as_ref().expect("a registry with TLS")
    }

    /// Its token service.
    pub fn tokens(&self) -> &TokenService {
        self.tokens.as_ref().expect("a registry with tokens")
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

/// A line of a password file with bcrypt at its cheapest.
pub fn htpasswd(user: &str, password: &str) -> String {
    run(Command::new("htpasswd").args(["-Bbn", "-C", "4", user, password]), Duration::from_secs(20)).ok()
}
