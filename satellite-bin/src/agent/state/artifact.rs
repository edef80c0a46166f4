//! State artifacts: an image of one layer that holds a JSON file.

use futures_lite::StreamExt;
use satellite_core::{
    fleet::artifact::{MAX_STATE, unpack},
    oci::{Algorithm, Digest, Hasher, ImageReference, Manifest},
    remote::{Fetched, Registry},
};
use url::Url;

use super::registries::{host_of, trouble};
use crate::agent::cause::{Cause, Trouble};

/// What was read.
pub(super) enum Read {
    /// It is what is known.
    Unchanged,
    /// Its JSON, and the manifest's digest.
    New(Vec<u8>, Digest),
}

/// The image that a state's URL names, and its registry's host.
pub(super) fn reference(url: &str) -> Result<ImageReference, Trouble> {
    let bad = |what: &dyn std::fmt::Display| {
        let shown: String = url.chars().take(120).collect();
        Trouble::new(Cause::STATE_INVALID, format!("{shown:?} is no address of a state: {what}"))
    };
    let parsed: Url = url.parse().map_err(|e| bad(&e))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(bad(&"expected http://HOST/REPOSITORY:TAG"));
    }
    format!("{}{}", host_of(&parsed), parsed.path()).parse().map_err(|e| bad(&e))
}

/// Reads an artifact, unless the registry says that it is the one with the digest `known`.
///
/// # Errors
/// Codes of `state` and `registry`.
pub(super) async fn read(
    registry: &Registry,
    image: &ImageReference,
    known: Option<&Digest>,
) -> Result<Read, Trouble> {
    let object = image.to_string();
    let unreadable = |what: &dyn std::fmt::Display| {
        Trouble::new(Cause::STATE_UNREADABLE, format!("{object} is no state artifact: {what}"))
    };
    let fetched = registry.get_manifest(&image.repository, &image.reference(), known).await;
    let (bytes, media_type, digest) = match fetched.map_err(|e| trouble(&object, &e))? {
        Fetched::NotModified => return Ok(Read::Unchanged),
        Fetched::Manifest { bytes, media_type, digest } => (bytes, media_type, digest),
    };
    // A registry that knows no conditions sends it all the same.
    if known == Some(&digest) {
        return Ok(Read::Unchanged);
    }
    let manifest = Manifest::parse(bytes, Some(&media_type)).map_err(|e| unreadable(&e))?;
    let layer = manifest.blobs.last().filter(|_| manifest.children.is_empty());
    let layer = layer.ok_or_else(|| unreadable(&"it has no layer"))?;
    let most = MAX_STATE as u64;
    let too_large =
        || Trouble::new(Cause::STATE_TOO_LARGE, format!("{object}: a layer of more than {most} bytes"));
    if layer.size > most {
        return Err(too_large());
    }
    let mut body = registry
        .open_blob(&image.repository, &layer.digest, 0)
        .await
        .map_err(|e| trouble(&object, &e))?
        .stream;
    let (mut all, mut hasher) = (Vec::new(), Hasher::new(Algorithm::Sha256));
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| Trouble::new(Cause::REGISTRY_UNREACHABLE, format!("{object}: {e}")))?;
        hasher.update(&piece);
        all.extend_from_slice(&piece);
        if all.len() as u64 > most {
            return Err(too_large());
        }
    }
    if hasher.finish() != layer.digest {
        let message = format!("{object}: the layer is not {}", layer.digest);
        return Err(Trouble::new(Cause::STATE_DIGEST_LIES, message));
    }
    let json = smol::unblock(move || unpack(&all)).await.map_err(|e| unreadable(&e))?;
    Ok(Read::New(json, digest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_references() {
        let image = reference("http://h:8080/satellite/satellite-state/s1/state:latest").unwrap();
        assert_eq!((image.registry.as_str(), image.tag.unwrap().as_str()), ("h:8080", "latest"));
        for bad in ["", "h/a:b", "file:///etc/passwd", "http://", "http://h/UPPER:x"] {
            assert_eq!(reference(bad).unwrap_err().cause, Cause::STATE_INVALID, "{bad}");
        }
    }
}
