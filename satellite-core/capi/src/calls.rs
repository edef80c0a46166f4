//! The functions of the header, which says what each takes and gives.
#![allow(unsafe_code)]

use std::{
    ffi::{c_char, c_int},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use futures_lite::future::block_on;
use satellite_core::{
    oci::{Algorithm, Digest, Manifest, Reference, Repository, Tag},
    store::{Options, Put, Store},
};

use crate::{
    boundary::{
        Failure, HANDLE, NOT_FOUND, Outcome, STORE, bad, bytes, give, give_text, last_error, run, set, store,
        text,
    },
    handles,
};

/// Bytes appended at a time.
const PIECE: usize = 256 << 10;

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(what: &str, pointer: *const c_char) -> Outcome<T> {
    text(what, pointer)?.parse().map_err(|e: T::Err| bad(format!("{what}: {e}")))
}

/// The version of the ABI: rises when something changes that a compiled program would notice.
// SAFETY: the prefix is ours; so for every name below.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_abi_version() -> u32 {
    1
}

/// The text of this thread's last failure.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_last_error(buffer: *mut c_char, room: usize) -> usize {
    let message = last_error();
    if !buffer.is_null() && room > 0 {
        let mut end = message.len().min(room - 1);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let mut whole = message.as_bytes()[..end].to_vec();
        whole.push(0);
        give(buffer.cast(), &whole);
    }
    message.len()
}

/// Opens or makes a store.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_open(dir: *const c_char, handle: *mut u64) -> c_int {
    run(|| {
        let dir = text("dir", dir)?;
        set("handle", handle, 0)?;
        let opened = Store::open(Path::new(&dir), Options::default())?;
        let number =
            handles::insert(opened).ok_or_else(|| Failure(STORE, "too many stores are open".into()))?;
        set("handle", handle, number)
    })
}

/// Closes a store.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_close(handle: u64) -> c_int {
    run(|| match handles::remove(handle) {
        Some(closed) => {
            drop(closed);
            Ok(())
        }
        None => Err(Failure(HANDLE, format!("handle {handle:#x} is not of an open store"))),
    })
}

/// Stores a blob whose bytes must have the digest.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_blob_put(
    handle: u64,
    repository: *const c_char,
    digest: *const c_char,
    data: *const u8,
    length: usize,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let repository: Repository = parsed("repository", repository)?;
        let digest: Digest = parsed("digest", digest)?;
        let data = bytes("data", data, length)?;
        block_on(async {
            let mut writer = store.begin_upload(&repository, Algorithm::Sha256).await?;
            writer.reserve(data.len() as u64).await?;
            for piece in data.chunks(PIECE) {
                writer.append(piece.to_vec().into()).await?;
            }
            writer.commit(&digest).await?;
            Ok(())
        })
    })
}

/// Stores a manifest and moves a tag to it.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_manifest_put(
    handle: u64,
    repository: *const c_char,
    digest: *const c_char,
    tag: *const c_char,
    data: *const u8,
    length: usize,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let repository: Repository = parsed("repository", repository)?;
        let digest: Digest = parsed("digest", digest)?;
        let tag: Tag = parsed("tag", tag)?;
        let data = bytes("data", data, length)?;
        let manifest = Manifest::parse(data.to_vec(), None).map_err(satellite_core::store::Error::from)?;
        let put = Put { tags: vec![tag], ..Put::default() };
        Ok(block_on(store.put_manifest(&repository, &digest, manifest, put))?)
    })
}

/// What a tag or digest of a repository names.
// Three results with their room: the form is C's.
#[allow(clippy::too_many_arguments)]
#[unsafe(no_mangle)]
pub extern "C" fn satellite_resolve(
    handle: u64,
    repository: *const c_char,
    reference: *const c_char,
    digest: *mut c_char,
    digest_room: usize,
    media_type: *mut c_char,
    media_type_room: usize,
    size: *mut u64,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let repository: Repository = parsed("repository", repository)?;
        let reference: Reference = parsed("reference", reference)?;
        let found = store
            .manifest(&repository, &reference)?
            .ok_or_else(|| Failure(NOT_FOUND, format!("{repository}: {reference} is not in the store")))?;
        give_text("digest", digest, digest_room, &found.digest.to_string())?;
        give_text("media_type", media_type, media_type_room, &found.media_type)?;
        set("size", size, found.size)
    })
}

/// Reads a blob from an offset on.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_blob_read(
    handle: u64,
    digest: *const c_char,
    offset: u64,
    buffer: *mut u8,
    room: usize,
    read: *mut usize,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let digest: Digest = parsed("digest", digest)?;
        set("read", read, 0)?;
        if buffer.is_null() {
            return Err(bad("buffer is NULL"));
        }
        let blob = store
            .open_blob(&digest)?
            .ok_or_else(|| Failure(NOT_FOUND, format!("blob {digest} is not in the store")))?;
        if offset >= blob.size {
            return Ok(());
        }
        // Through memory of our own: the caller's may hold nothing yet, which no slice may cover.
        let left = blob.size.saturating_sub(offset).min(room as u64);
        let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
        let got = blob
            .file
            .read_at(&mut piece, offset)
            .map_err(|e| Failure(STORE, format!("cannot read {digest}: {e}")))?;
        give(buffer, &piece[..got]);
        set("read", read, got)
    })
}

/// Collects garbage older than `grace_seconds`.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_gc(handle: u64, grace_seconds: u64, freed: *mut u64) -> c_int {
    run(|| {
        let store = store(handle)?;
        set("freed", freed, 0)?;
        let report = block_on(store.gc(Some(Duration::from_secs(grace_seconds))))?;
        set("freed", freed, report.bytes)
    })
}
