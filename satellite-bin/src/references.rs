//! Names of images in the store, as people type them.

use satellite_core::{
    oci::{ImageReference, Reference, Repository},
    store::{self, Store},
};

use crate::exit::{Code, Failure, Result};

/// Finds `REPOSITORY[:TAG][@DIGEST]` in the store, with or without the host that it was pulled from. The tag alone is
/// `latest`.
pub(crate) fn find(store: &Store, text: &str) -> Result<(Repository, Reference)> {
    let mut candidates: Vec<(Repository, Reference)> = Vec::new();
    candidates.extend(own(text));
    let parsed = text.parse::<ImageReference>();
    if let Ok(image) = &parsed {
        candidates.push((image.repository.clone(), image.reference()));
    }
    if let (true, Err(e)) = (candidates.is_empty(), &parsed) {
        return Err(Failure::new(Code::Usage, e));
    }
    for (repository, reference) in candidates {
        let found = store.manifest(&repository, &reference).map_err(Failure::from)?;
        if found.is_some() {
            return Ok((repository, reference));
        }
    }
    // Pulled through: its tag is known by its host alone.
    if let Ok(ImageReference { registry, repository, tag: Some(tag), digest: None }) = &parsed
        && let Some(digest) = store.cached_tag(repository, registry, tag).map_err(Failure::from)?
    {
        return Ok((repository.clone(), Reference::Digest(digest)));
    }
    Err(Failure::new(Code::NotFound, format!("{text} is not in the store; `satellite images` lists what is")))
}

/// The name taken as it stands, without completing it the Docker way.
fn own(text: &str) -> Option<(Repository, Reference)> {
    let (name, digest) = text.split_once('@').map_or((text, None), |(n, d)| (n, Some(d)));
    let (name, tag) = name.rsplit_once(':').filter(|(_, t)| !t.contains('/')).unwrap_or((name, "latest"));
    let reference = match digest {
        Some(digest) => Reference::Digest(digest.parse().ok()?),
        None => Reference::Tag(tag.parse().ok()?),
    };
    Some((name.parse().ok()?, reference))
}

/// As [`find`], for what may be called on nothing.
pub(crate) fn digest(
    store: &Store,
    repository: &Repository,
    reference: &Reference,
) -> store::Result<Option<satellite_core::oci::Digest>> {
    Ok(store.manifest(repository, reference)?.map(|info| info.digest))
}
