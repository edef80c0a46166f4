//! Paths of the Distribution API, read without touching anything.

use percent_encoding::percent_decode_str;

use super::{
    Query,
    error::{Code, Failure},
};
use crate::oci::{Digest, NameError, Reference, Repository, canonical_host};

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags,
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(Reference),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads,
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(String),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(Digest),
    /// `/healthz`
    Health,
    /// `/metrics`
    Metrics,
}

impl Route {
    /// A word for metrics; a fixed few.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags => "tags",
            Self::Manifest(_) => "manifest",
            Self::Blob(_) => "blob",
            Self::Uploads | Self::Upload(_) => "upload",
            Self::Referrers(_) => "referrers",
            Self::Health => "health",
            Self::Metrics => "metrics",
        }
    }
}

/// A path with the names in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) route: Route,
    pub(super) repository: Option<Repository>,
    /// The host whose repository is meant: `?ns=HOST`, `/HOST/v2/NAME`, or `/v2/HOST:PORT/NAME`.
    pub(super) upstream: Option<String>,
}

impl Target {
    fn plain(route: Route) -> Self {
        Self { route, repository: None, upstream: None }
    }
}

/// Reads a path. Names against the grammar are the errors that the specification has for them.
pub(super) fn parse(path: &str, query: Option<&str>) -> Result<Target, Failure> {
    let path = percent_decode_str(path).decode_utf8().map_err(|_| Failure::not_found())?;
    match &*path {
        "/healthz" => return Ok(Target::plain(Route::Health)),
        "/metrics" => return Ok(Target::plain(Route::Metrics)),
        "/v2" | "/v2/" => return Ok(Target::plain(Route::Base)),
        "/v2/_catalog" => return Ok(Target::plain(Route::Catalog)),
        _ => {}
    }
    let (mut upstream, rest) = match path.strip_prefix("/v2/") {
        Some(rest) => (None, rest),
        // Docker puts the path of a mirror before `/v2/`.
        None => {
            let (host, rest) = path[1..].split_once("/v2/").ok_or_else(Failure::not_found)?;
            if host.is_empty() || host.contains('/') {
                return Err(Failure::not_found());
            }
            if rest.is_empty() {
                return Ok(Target::plain(Route::Base));
            }
            (Some(host.to_string()), rest)
        }
    };
    let (name, route) = split(rest)?;
    // A colon is in no repository name, so this can only be a host with its port.
    let name = match name.split_once('/') {
        Some((host, rest)) if host.contains(':') && upstream.is_none() => {
            upstream = Some(host.to_string());
            rest
        }
        _ => name,
    };
    if upstream.is_none() {
        upstream = Query::parse(query).get("ns").filter(|ns| !ns.is_empty()).map(str::to_string);
    }
    // What is no host at all is nobody's, and matches no origin.
    let upstream = upstream.map(|host| canonical_host(&host).unwrap_or(host));
    let repository: Repository =
        name.parse().map_err(|e| Failure::new(Code::NameInvalid, &format!("{e}")))?;
    Ok(Target { route, repository: Some(repository), upstream })
}

/// Takes the end of a path off its name. The last marker counts: `a/manifests/b/manifests/c` is `a/manifests/b`.
fn split(rest: &str) -> Result<(&str, Route), Failure> {
    let digest =
        |text: &str| text.parse::<Digest>().map_err(|e| Failure::new(Code::DigestInvalid, &format!("{e}")));
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Ok((name, Route::Tags));
    }
    if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
        return Ok((name, Route::Uploads));
    }
    let markers = ["/blobs/uploads/", "/blobs/", "/referrers/", "/manifests/"];
    let last = markers.into_iter().filter_map(|m| Some((rest.rfind(m)?, m)));
    // Of two at one place the longer: an upload is not a blob called `uploads`.
    let (at, marker) = last.max_by_key(|(at, m)| (*at, m.len())).ok_or_else(Failure::not_found)?;
    let (name, text) = (&rest[..at], &rest[at + marker.len()..]);
    let route = match marker {
        "/blobs/uploads/" => Route::Upload(text.to_string()),
        "/blobs/" => Route::Blob(digest(text)?),
        "/referrers/" => Route::Referrers(digest(text)?),
        _ => Route::Manifest(text.parse().map_err(|e| match &e {
            NameError::Digest(_) => Failure::new(Code::DigestInvalid, &format!("{e}")),
            // The specification has no code for a malformed tag: nothing of that name can be here.
            _ => Failure::new(Code::ManifestUnknown, &format!("{e}")),
        })?),
    };
    Ok((name, route))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn target(path: &str) -> Target {
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        parse(path, query).unwrap_or_else(|f| panic!("{path}: {f:?}"))
    }

    #[test]
    fn the_three_spellings_of_an_upstream_are_one() {
        for path in [
            "/v2/library/alpine/manifests/3?ns=docker.io",
            "/v2/library/alpine/manifests/3?ns=registry-1.docker.io",
            "/docker.io/v2/library/alpine/manifests/3",
        ] {
            let t = target(path);
            assert_eq!(t.upstream.as_deref(), Some("docker.io"), "{path}");
            assert_eq!(t.repository.unwrap().as_str(), "library/alpine");
            assert_eq!(t.route, Route::Manifest("3".parse().unwrap()));
        }
        let t = target("/v2/127.0.0.1:5000/a/b/tags/list");
        assert_eq!((t.upstream.as_deref(), t.repository.unwrap().as_str()), (Some("127.0.0.1:5000"), "a/b"));
        assert_eq!(
            target("/v2/docker.io/library/alpine/tags/list").upstream,
            None,
            "a project may be called that"
        );
    }

    #[test]
    fn names_may_hold_the_words_of_the_api() {
        let t = target("/v2/a/manifests/b/blobs/c/manifests/v1");
        assert_eq!(t.repository.unwrap().as_str(), "a/manifests/b/blobs/c");
        assert_eq!(target("/v2/a/blobs/uploads/u-1").route, Route::Upload("u-1".into()));
        assert_eq!(target("/v2/a/blobs/uploads/").route, Route::Uploads);
        let d = Digest::sha256(b"");
        assert_eq!(
            target(&format!("/v2/a/blobs/{}", d.to_string().replace(':', "%3A"))).route,
            Route::Blob(d)
        );
    }

    #[test]
    fn path_tricks_lead_nowhere() {
        for path in [
            "/v2/../etc/manifests/v1",
            "/v2/a/../b/manifests/v1",
            "/v2/a%2f..%2fb/manifests/v1",
            "/v2//manifests/v1",
            "/v2/A/manifests/v1",
            "/v2/a/manifests/",
            "/v2/a/manifests/../x",
            "/v2/a/blobs/sha256:..",
            "/v2/a/blobs/x",
            "/v2/a%00b/manifests/v1",
            "/",
            "/v3/",
            "/v2/a",
            "/x/y/v2/a/tags/list",
            "/v2/%ff/tags/list",
        ] {
            assert!(parse(path, None).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_parses_or_fails_without_panic(path in "/[ -~é]{0,200}", query in "[ -~]{0,50}") {
            let _ = parse(&path, Some(&query));
        }
    }
}
