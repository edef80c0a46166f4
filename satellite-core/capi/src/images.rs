//! Manifests and tags: put, resolved, listed, removed.
#![allow(unsafe_code)]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    ptr::null,
};

use futures_lite::future::block_on;
use satellite_core::{
    oci::{Manifest, Reference, Repository, Tag},
    store::{Error, ManifestInfo, Put, Store},
};

use crate::{
    blobs::addressed,
    boundary::{array, aside, bytes, optional, parsed, run, set},
    codes::{Failure, Outcome, SATELLITE_CANCELLED, SATELLITE_NOT_FOUND, bad},
    handles::{StoreHandle, store},
    version::{SATELLITE_DIGEST_ROOM, SATELLITE_MEDIA_TYPE_ROOM},
};

/// What a tag or digest names.
#[repr(C)]
pub struct ManifestOut {
    /// Its digest, by which satellite_blob_read reads it.
    pub digest: [c_char; SATELLITE_DIGEST_ROOM],
    /// Its media type.
    pub media_type: [c_char; SATELLITE_MEDIA_TYPE_ROOM],
    /// Its bytes.
    pub size: u64,
    /// 0.
    pub reserved: [u64; 4],
}

/// An image as it is listed. The strings are gone when the call-back returns.
#[repr(C)]
pub struct ImageOut {
    /// Where it is.
    pub repository: *const c_char,
    /// Its tag; NULL if it is held by its digest.
    pub tag: *const c_char,
    /// The digest of its manifest.
    pub digest: *const c_char,
    /// The manifest's media type.
    pub media_type: *const c_char,
    /// The manifest's bytes.
    pub size: u64,
}

/// Called for each image, on the thread that lists. Other than 0: no more of them.
pub type ImageCallback = Option<extern "C" fn(context: *mut c_void, image: *const ImageOut) -> c_int>;

/// Stores a manifest of `length` bytes and moves `tag` to it, durably, all or nothing; without a tag (NULL) it is held by
/// its digest. All it names must be in the store, and it must have the digest.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_manifest_put(
    handle: StoreHandle,
    repository: *const c_char,
    digest: *const c_char,
    tag: *const c_char,
    data: *const u8,
    length: usize,
) -> c_int {
    run(|| {
        let (store, repository, digest) = addressed(handle, repository, digest)?;
        let tag: Option<Tag> =
            optional("tag", tag)?.map(|t| t.parse().map_err(|e| bad(format!("tag: {e}")))).transpose()?;
        let data = bytes("data", data, length)?;
        let manifest = Manifest::parse(data.to_vec(), None).map_err(Error::from)?;
        let put = Put { pin: tag.is_none(), tags: tag.into_iter().collect(), ..Put::default() };
        aside(|| {
            block_on(store.put_manifest(&repository, &digest, manifest, put))?;
            Ok(block_on(store.refresh_layout())?)
        })
    })
}

/// What a tag or digest of `repository` names.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_manifest_resolve(
    handle: StoreHandle,
    repository: *const c_char,
    reference: *const c_char,
    manifest: *mut ManifestOut,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let repository: Repository = parsed("repository", repository)?;
        let reference: Reference = parsed("reference", reference)?;
        let found =
            store.manifest(&repository, &reference)?.ok_or_else(|| unknown(&repository, &reference))?;
        let out = ManifestOut {
            digest: array("digest", found.digest.as_str())?,
            media_type: array("media_type", &found.media_type)?,
            size: found.size,
            reserved: [0; 4],
        };
        set("manifest", manifest, out)
    })
}

fn unknown(repository: &Repository, reference: &Reference) -> Failure {
    Failure(SATELLITE_NOT_FOUND, format!("{repository}: {reference} is not in the store"))
}

/// Lists tags, and images that are held by their digest, in no order that can be relied on.
///
/// Threads: any. The call-back may call any function of this library.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_image_list(
    handle: StoreHandle,
    callback: ImageCallback,
    context: *mut c_void,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let callback = callback.ok_or_else(|| bad("callback is NULL"))?;
        each_image(&store, |repository, tag, info| {
            let text = |from: &str| CString::new(from).unwrap_or_default();
            let strings = [repository.as_str(), info.digest.as_str(), &info.media_type].map(text);
            let tag = tag.map(|t| text(t.as_str()));
            let image = ImageOut {
                repository: strings[0].as_ptr(),
                tag: tag.as_ref().map_or(null(), |t| t.as_ptr()),
                digest: strings[1].as_ptr(),
                media_type: strings[2].as_ptr(),
                size: info.size,
            };
            if callback(context, &raw const image) == 0 {
                return Ok(());
            }
            Err(Failure(SATELLITE_CANCELLED, "the call-back wanted no more images".into()))
        })
    })
}

fn each_image(
    store: &Store,
    mut tell: impl FnMut(&Repository, Option<&Tag>, &ManifestInfo) -> Outcome,
) -> Outcome {
    for repository in store.repositories(None) {
        let repository = repository?;
        for tag in store.tags(&repository, None) {
            let (tag, digest) = tag?;
            // A tag may go while they are listed.
            if let Some(info) = store.manifest(&repository, &Reference::Digest(digest))? {
                tell(&repository, Some(&tag), &info)?;
            }
        }
        for info in store.manifests(&repository, None) {
            let info = info?;
            if store.is_pinned(&repository, &info.digest)? {
                tell(&repository, None, &info)?;
            }
        }
    }
    Ok(())
}

/// Removes a tag, or by its digest a manifest with all its tags, durably. Content that nothing refers to any more goes
/// with satellite_store_gc.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_image_remove(
    handle: StoreHandle,
    repository: *const c_char,
    reference: *const c_char,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let repository: Repository = parsed("repository", repository)?;
        let reference: Reference = parsed("reference", reference)?;
        aside(|| {
            let removed = block_on(async {
                match &reference {
                    Reference::Tag(tag) => store.remove_tag(&repository, tag).await,
                    Reference::Digest(digest) => store.remove_manifest(&repository, digest).await,
                }
            })?;
            if !removed {
                return Err(unknown(&repository, &reference));
            }
            Ok(block_on(store.refresh_layout())?)
        })
    })
}
