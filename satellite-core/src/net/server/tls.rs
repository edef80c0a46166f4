//! TLS with a certificate from files that may be replaced at any time.

use std::{
    fs, io,
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_io::Async;
use futures_rustls::{
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{NoServerSessionStorage, WebPkiClientVerifier},
    },
    server::TlsStream,
};

use crate::net::message::ClientCertificate;

/// The files are looked at no more often than this.
const LOOK: Duration = Duration::from_secs(2);
/// What rustls may hold of bytes not yet sent: one piece of a file.
const BUFFER: usize = 64 << 10;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no such thing.
    #[error("reading {path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("certificate {path} with its key: {error}")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

/// Accepts TLS 1.2 and 1.3 with a certificate chain and key from PEM files. They are loaded again when they
/// change; while the new ones cannot be used, the old ones stay.
pub struct TlsAcceptor {
    files: Files,
    look: Duration,
    state: Mutex<State>,
}

/// What it is made of.
#[derive(Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Who signs clients' certificates, and whether a client may come without one.
    clients: Option<(PathBuf, bool)>,
}

impl Files {
    fn stamp(&self) -> Stamp {
        [stamp(&self.certificate), stamp(&self.key), self.clients.as_ref().and_then(|(path, _)| stamp(path))]
    }
}

struct State {
    config: Arc<ServerConfig>,
    stamp: Stamp,
    looked: Instant,
}

/// What changes with a file: when, which, how long.
type Stamp = [Option<(i64, i64, u64, u64)>; 3];

impl TlsAcceptor {
    /// Loads both files.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        Self::new(Files { certificate: certificate.into(), key: key.into(), clients: None })
    }

    /// Asks clients for certificates that one of the authorities in the file `ca` signed: of everybody, or, if
    /// `optional`, of those who have one. Who shows one is told to handlers as
    /// [`ClientCertificate`](crate::net::message::ClientCertificate).
    pub fn with_clients(self, ca: impl Into<PathBuf>, optional: bool) -> Result<Self, TlsError> {
        Self::new(Files { clients: Some((ca.into(), optional)), ..self.files })
    }

    fn new(files: Files) -> Result<Self, TlsError> {
        // The stamp first: a change in between is then seen as one.
        let stamp = files.stamp();
        let config = load(&files)?;
        let state = Mutex::new(State { config, stamp, looked: Instant::now() });
        Ok(Self { files, look: LOOK, state })
    }

    #[cfg(test)]
    pub(super) fn look_always(mut self) -> Self {
        self.look = Duration::ZERO;
        self
    }

    pub(super) async fn accept(&self, stream: Async<TcpStream>) -> io::Result<TlsStream<Async<TcpStream>>> {
        futures_rustls::TlsAcceptor::from(self.config())
            .accept_with(stream, |connection| connection.set_buffer_limit(Some(BUFFER)))
            .await
    }

    fn config(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= self.look {
            state.looked = Instant::now();
            let now = self.files.stamp();
            if now != state.stamp {
                // Kept for bad files too, so that each change is reported once.
                state.stamp = now;
                match load(&self.files) {
                    Ok(config) => {
                        log::info!(path:% = self.files.certificate.display(); "TLS certificate loaded again");
                        state.config = config;
                    }
                    Err(e) => log::error!("the TLS certificate in use stays, the new one is bad: {e}"),
                }
            }
        }
        Arc::clone(&state.config)
    }
}

fn stamp(path: &Path) -> Option<(i64, i64, u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.ino(), m.len()))
}

fn load(files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let Files { certificate, key, clients } = files;
    let file = |path: &Path, error| TlsError::File { path: path.into(), error };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| file(certificate, e))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e))?;
    let pair = |error| TlsError::Pair { path: certificate.into(), error };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((ca, optional)) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_file_iter(ca).map_err(|e| file(ca, e))? {
                let bad = |error| TlsError::Pair { path: ca.into(), error };
                roots.add(authority.map_err(|e| file(ca, e))?).map_err(bad)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if *optional { verifier.allow_unauthenticated() } else { verifier };
            let none = |e| TlsError::Pair { path: ca.into(), error: rustls::Error::General(format!("{e}")) };
            builder.with_client_cert_verifier(verifier.build().map_err(none)?)
        }
    };
    let mut config = builder.with_single_cert(chain, secret).map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if clients.is_some() {
        // A certificate is looked at by a whole handshake alone: one that has lapsed must not go on by tickets.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        // Any number of clients, and nothing kept of them. Who comes back in a day spares itself the certificates.
        config.ticketer = ring::Ticketer::new().map_err(pair)?;
        config.send_tls13_tickets = 1;
    }
    Ok(Arc::new(config))
}

/// What the client's verified certificate says, if it showed one that can be read.
pub(super) fn client_certificate(stream: &TlsStream<Async<TcpStream>>) -> Option<ClientCertificate> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(ClientCertificate::new(parsed.valid_uri_names().map(String::from)))
}
