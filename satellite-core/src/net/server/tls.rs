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
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

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

/// Accepts TLS 1.2 and 1.3 with a certificate chain and key from PEM files. Both are loaded again when they
/// change; while the new ones cannot be used, the old ones stay.
pub struct TlsAcceptor {
    certificate: PathBuf,
    key: PathBuf,
    look: Duration,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    stamp: Stamp,
    looked: Instant,
}

/// What changes with a file: when, which, how long.
type Stamp = [Option<(i64, i64, u64, u64)>; 2];

impl TlsAcceptor {
    /// Loads both files.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        // The stamp first: a change in between is then seen as one.
        let stamp = [stamp(&certificate), stamp(&key)];
        let config = load(&certificate, &key)?;
        let state = Mutex::new(State { config, stamp, looked: Instant::now() });
        Ok(Self { certificate, key, look: LOOK, state })
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
            let now = [stamp(&self.certificate), stamp(&self.key)];
            if now != state.stamp {
                // Kept for bad files too, so that each change is reported once.
                state.stamp = now;
                match load(&self.certificate, &self.key) {
                    Ok(config) => {
                        log::info!(path:% = self.certificate.display(); "TLS certificate loaded again");
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

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |path: &Path, error| TlsError::File { path: path.into(), error };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| file(certificate, e))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e))?;
    let pair = |error| TlsError::Pair { path: certificate.into(), error };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
