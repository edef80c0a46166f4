//! What this client trusts and shows.

use std::{path::Path, sync::Arc, time::UNIX_EPOCH};

use futures_rustls::{
    TlsConnector,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    rustls::{
        self, RootCertStore,
        crypto::ring,
        time_provider::{DefaultTimeProvider, TimeProvider},
    },
};

use super::{CertificateClock, ClientConfig, ClientError, uri::OfUri};

/// What has been read from the configured files; the system's roots come later, see [`Material::connector`].
pub(super) struct Material {
    roots: Vec<CertificateDer<'static>>,
    native: bool,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    server_uri: Option<String>,
    clock: Option<CertificateClock>,
}

#[derive(Debug)]
struct Time(CertificateClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.now().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

fn config_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(String) -> ClientError + 'a {
    move |cause| ClientError::Config { what, path: path.to_path_buf(), cause }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let error = config_error(what, path);
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|e| error(e.to_string()))?;
    if all.is_empty() { Err(error("holds no PEM certificate".into())) } else { Ok(all) }
}

impl Material {
    pub(super) fn read(config: &ClientConfig) -> Result<Self, ClientError> {
        let mut roots = Vec::new();
        for path in &config.extra_roots {
            let found = certificates("CA bundle", path)?;
            // A bundle that cannot be used at all is a mistake; single odd certificates in it are not.
            if RootCertStore::empty().add_parsable_certificates(found.iter().cloned()).0 == 0 {
                return Err(config_error("CA bundle", path)("holds no usable certificate".into()));
            }
            roots.extend(found);
        }
        let identity = config.identity.as_ref().map(|identity| {
            let chain = certificates("client certificate", &identity.certificate)?;
            let key = PrivateKeyDer::from_pem_file(&identity.key)
                .map_err(|e| config_error("client key", &identity.key)(e.to_string()))?;
            // Here and not at the first handshake, so that a wrong pair is found at start.
            let pair = Some((chain.clone(), key.clone_key()));
            let material =
                Self { roots: Vec::new(), native: false, identity: pair, server_uri: None, clock: None };
            material.build().map_err(|e| config_error("client key", &identity.key)(e.to_string()))?;
            Ok((chain, key))
        });
        Ok(Self {
            roots,
            native: config.native_roots,
            identity: identity.transpose()?,
            server_uri: config.server_uri.clone(),
            clock: config.clock.clone(),
        })
    }

    /// Reads the system's roots (some hundred kilobytes of files): to be called off the executor's threads.
    pub(super) fn connector(&self) -> Result<TlsConnector, rustls::Error> {
        self.build().map(|config| TlsConnector::from(Arc::new(config)))
    }

    fn build(&self) -> Result<rustls::ClientConfig, rustls::Error> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().cloned());
        if self.native {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                log::warn!(error:% = error; "cannot read one of the system's certificates");
            }
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                log::warn!(
                    "no certification authority on this system: install ca-certificates or name a CA bundle"
                );
            }
        }
        // A library must not depend on, or install, a process-wide provider.
        let time: Arc<dyn TimeProvider> = match &self.clock {
            Some(clock) => Arc::new(Time(clock.clone())),
            None => Arc::new(DefaultTimeProvider),
        };
        let provider = Arc::new(ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_details(provider.clone(), time)
            .with_safe_default_protocol_versions()?;
        let builder = match &self.server_uri {
            None => builder.with_root_certificates(store),
            Some(uri) => builder.dangerous().with_custom_certificate_verifier(Arc::new(OfUri::new(
                uri.clone(),
                store,
                &provider,
            ))),
        };
        let mut config = match &self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
