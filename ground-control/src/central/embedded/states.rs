//! State artifacts straight into the store.

use satellite_core::{
    oci::{Algorithm, Digest, Manifest, Reference, Repository, media_type},
    store::{self, Put, Store},
};

use super::super::{Error, Result, push};

pub(super) fn at_store(error: &store::Error) -> Error {
    if error.is_no_space() {
        return Error::transient("no_space", error.to_string());
    }
    Error::transient("store", error.to_string())
}

/// Publishes `json` as `latest` and as the time's tag, both or none, unless it is `latest` already.
pub(super) async fn publish(
    store: &Store,
    repository: &Repository,
    json: &[u8],
    stamp: i64,
) -> Result<Digest> {
    let packed = push::pack(json).await?;
    if resolve(store, repository, "latest")?.as_deref() == Some(packed.digest.as_str()) {
        return Ok(packed.digest);
    }
    for blob in [packed.config, packed.layer] {
        let digest = Digest::sha256(&blob);
        if store.is_linked(repository, &digest).map_err(|e| at_store(&e))?
            && store.blob_size(&digest).map_err(|e| at_store(&e))? == Some(blob.len() as u64)
        {
            continue;
        }
        let mut writer = store.begin_upload(repository, Algorithm::Sha256).await.map_err(|e| at_store(&e))?;
        writer.append(blob.into()).await.map_err(|e| at_store(&e))?;
        writer.commit(&digest).await.map_err(|e| at_store(&e))?;
    }
    let manifest = Manifest::parse(packed.manifest, Some(media_type::DOCKER_MANIFEST))
        .map_err(|e| Error::permanent("store", e.to_string()))?;
    let tags = vec![push::tag(&stamp.to_string())?, push::tag("latest")?];
    let put = Put { tags, ..Put::default() };
    store.put_manifest(repository, &packed.digest, manifest, put).await.map_err(|e| at_store(&e))?;
    Ok(packed.digest)
}

/// Removes what was published before: what no tag names but those of earlier times.
pub(super) async fn prune(
    store: &Store,
    repository: &Repository,
    current: &Digest,
    stamp: i64,
) -> Result<()> {
    let mut kept = vec![current.clone()];
    for tag in store.tags(repository, None) {
        let (tag, digest) = tag.map_err(|e| at_store(&e))?;
        if tag.as_str().parse::<i64>().map_or(true, |at| at > stamp) {
            kept.push(digest);
        }
    }
    for digest in digests(store, repository)? {
        if !kept.contains(&digest) {
            store.remove_manifest(repository, &digest).await.map_err(|e| at_store(&e))?;
        }
    }
    Ok(())
}

pub(super) async fn unpublish(store: &Store, repository: &Repository) -> Result<()> {
    for digest in digests(store, repository)? {
        store.remove_manifest(repository, &digest).await.map_err(|e| at_store(&e))?;
    }
    Ok(())
}

fn digests(store: &Store, repository: &Repository) -> Result<Vec<Digest>> {
    store.manifests(repository, None).map(|m| m.map(|m| m.digest).map_err(|e| at_store(&e))).collect()
}

pub(super) fn resolve(store: &Store, repository: &Repository, tag: &str) -> Result<Option<String>> {
    let reference = Reference::Tag(push::tag(tag)?);
    let found = store.manifest(repository, &reference).map_err(|e| at_store(&e))?;
    Ok(found.map(|m| m.digest.to_string()))
}
