//! SPIFFE ids in clients' certificates, and the satellites they name. The chain was verified by TLS before.

use http::{StatusCode, request::Parts};
use satellite_core::net::message::ClientCertificate;

use crate::{app::App, http::Error};

/// The name of the satellite that a certificate names, if the client showed one and the server goes by them.
///
/// # Errors
/// A certificate of another trust domain, or of no satellite.
pub fn name(parts: &Parts, app: &App) -> Result<Option<String>, Error> {
    let Some(domain) = &app.settings.spiffe_domain else { return Ok(None) };
    let Some(certificate) = parts.extensions.get::<ClientCertificate>() else { return Ok(None) };
    let ids: Vec<&str> =
        certificate.uris().iter().map(String::as_str).filter(|u| u.starts_with("spiffe://")).collect();
    // An SVID has one URI name exactly (SPIFFE X509-SVID §2).
    match ids.as_slice() {
        [] => Ok(None),
        [id] => satellite(domain, id).map(Some).ok_or_else(|| {
            Error::new(StatusCode::BAD_REQUEST, "Error: Invalid SPIFFE ID format for satellite")
        }),
        _ => Err(Error::new(StatusCode::BAD_REQUEST, "Error: Invalid SPIFFE ID format for satellite")),
    }
}

/// `spiffe://<domain>/satellite`, `/satellite/<name>`, `/satellite/region/<region>/<name>`; of anything longer the last part.
pub fn satellite(domain: &str, id: &str) -> Option<String> {
    let path = id.strip_prefix("spiffe://")?.strip_prefix(domain)?;
    let rest = path.strip_prefix("/satellite")?;
    let name = match rest {
        "" => "default",
        _ => rest.strip_prefix('/')?.rsplit('/').next()?,
    };
    name.parse::<satellite_core::fleet::Name>().ok().map(|n| n.as_str().to_string())
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
        let of = |id: &str| satellite("example.org", id);
        assert_eq!(of("spiffe://example.org/satellite").as_deref(), Some("default"));
        assert_eq!(of("spiffe://example.org/satellite/s1").as_deref(), Some("s1"));
        assert_eq!(of(&id("example.org", "eu", "s1")).as_deref(), Some("s1"));
        assert_eq!(of("spiffe://example.org/satellite/a/b/c/s2").as_deref(), Some("s2"));
        for bad in [
            "spiffe://example.com/satellite/s1",
            "spiffe://example.org.evil/satellite/s1",
            "spiffe://example.org/satellites/s1",
            "spiffe://example.org/satellite/",
            "spiffe://example.org/satellite/S 1",
            "spiffe://example.org/agent/s1",
            "https://example.org/satellite/s1",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
