//! Clients of the registries that a command talks to.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use satellite_core::{
    net::{
        Executor,
        client::{ClientConfig, SurfClient, surf_client},
    },
    remote::{self, Credentials, DockerConfig, Scheme, Secret},
    replicate::Connect,
};

use crate::{
    control::Upstream,
    exit::{Code, Failure, Result},
};

/// Clients of registries by host, made when first needed.
pub(crate) struct Registries {
    upstream: Upstream,
    client: SurfClient,
    /// What we call ourselves in `Via`.
    name: Option<String>,
    made: Mutex<HashMap<String, remote::Registry>>,
}

impl Registries {
    pub(crate) fn new(upstream: Upstream, executor: &Executor) -> Result<Self> {
        let config = ClientConfig {
            extra_roots: upstream.ca_files.clone(),
            first_byte_timeout: upstream.stall(),
            ..ClientConfig::from_env()
        };
        let client = surf_client(config, executor.clone()).map_err(|e| Failure::new(Code::Usage, e))?;
        Ok(Self { upstream, client, name: None, made: Mutex::default() })
    }

    /// For requests that are made for others.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl Connect for Registries {
    fn connect(&self, host: &str) -> std::result::Result<remote::Registry, remote::Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = made.get(host) {
            return Ok(registry.clone());
        }
        let credentials = match &self.upstream.login {
            Some((user, password)) => {
                Credentials::Password { user: user.clone(), password: Secret::new(password.as_str()) }
            }
            None => Credentials::Docker(DockerConfig::from_files(self.upstream.docker_config.clone())),
        };
        let scheme = match &self.upstream {
            Upstream { plain_http: true, .. } => Scheme::Http,
            Upstream { ca_files, .. } if ca_files.is_empty() => Scheme::Auto,
            // Who names an authority means TLS, on loopback too.
            _ => Scheme::Https,
        };
        let options = remote::Options {
            scheme,
            credentials,
            via: self.name.clone(),
            stall_timeout: self.upstream.stall(),
            ..remote::Options::default()
        };
        let registry = remote::Registry::new(host, options, self.client.clone())?;
        made.insert(host.into(), registry.clone());
        Ok(registry)
    }
}

impl Upstream {
    pub(crate) fn stall(&self) -> Duration {
        Duration::from_millis(self.stall_ms)
    }
}
