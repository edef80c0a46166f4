//! SPIFFE ids in clients' certificates, and the satellites they name. The chain was verified by TLS before.

use http::{StatusCode, request::Parts};
use satellite_core::net::message::ClientCertificate;

use crate::{app::App, http::Error};

/// The name of the satellite that a certificate names, if the client showed one and the server goes by them. One of
/// another trust domain, or of something that is no satellite, is as good as none.
///
/// # Errors
/// 400 for a satellite whose name is none.
pub fn name(parts: &Parts, app: &App) -> Result<Option<String>, Error> {
    let Some(domain) = &app.settings.spiffe_domain else { return Ok(None) };
    let Some(certificate) = parts.extensions.get::<ClientCertificate>() else { return Ok(None) };
    let mut ids = certificate.uris().iter().filter(|uri| uri.starts_with("spiffe://"));
    // An SVID has one URI name exactly (SPIFFE X509-SVID §2).
    let (Some(id), None) = (ids.next(), ids.next()) else { return Ok(None) };
    let Some(name) = satellite(domain, id) else { return Ok(None) };
    match name.parse::<satellite_core::fleet::Name>() {
        Ok(_) => Ok(Some(name.into())),
        Err(e) => {
            Err(Error::new(StatusCode::BAD_REQUEST, "Error: Invalid SPIFFE ID format for satellite")
                .detail(e))
        }
    }
}

/// `spiffe://<domain>/satellite`, `/satellite/<name>`, `/satellite/region/<region>/<name>`; of anything longer the last part.
pub fn satellite<'a>(domain: &str, id: &'a str) -> Option<&'a str> {
    let path = id.strip_prefix("spiffe://")?.strip_prefix(domain)?;
    match path.strip_prefix("/satellite")? {
        "" => Some("default"),
        rest => rest.strip_prefix('/')?.rsplit('/').next(),
    }
}

/// The id of a satellite's workload.
pub fn id(domain: &str, region: &str, name: &str) -> String {
    format!("spiffe://{domain}/satellite/region/{region}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_satellite_in_its_own_domain_alone() {
        fn of(id: &str) -> Option<&str> {
            satellite("example.org", id)
        }
        assert_eq!(of("spiffe://example.org/satellite"), Some("default"));
        assert_eq!(of("spiffe://example.org/satellite/s1"), Some("s1"));
        let made = id("example.org", "eu", "s1");
        assert_eq!(of(&made), Some("s1"));
        assert_eq!(of("spiffe://example.org/satellite/a/b/c/s2"), Some("s2"));
        for bad in [
            "spiffe://example.com/satellite/s1",
            "spiffe://example.org.evil/satellite/s1",
            "spiffe://example.org/satellites/s1",
            "spiffe://example.org/agent/s1",
            "https://example.org/satellite/s1",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
