//! A server that is known by the URI in its certificate: X.509-SVIDs of SPIFFE name no hosts.

use futures_rustls::{
    pki_types::{CertificateDer, ServerName, UnixTime},
    rustls::{
        CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::{
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_cert_signed_by_trust_anchor,
        },
        crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
        server::ParsedCertificate,
    },
};

/// Takes a certificate that one of the authorities vouches for and that is of this URI, whatever host it was found at.
#[derive(Debug)]
pub(super) struct OfUri {
    uri: String,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OfUri {
    pub(super) fn new(uri: String, roots: RootCertStore, provider: &CryptoProvider) -> Self {
        Self { uri, roots, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for OfUri {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let all = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, all)?;
        let names = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let uris: Vec<&str> = names.valid_uri_names().take(10).collect();
        if uris.contains(&self.uri.as_str()) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!("the server's certificate is of {uris:?}, and not of {}", self.uri)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
