//! Blobs: looked up, read by range, put.
#![allow(unsafe_code)]

use std::{
    ffi::{c_char, c_int},
    fs::File,
    io::Read,
};

use futures_lite::future::block_on;
use rustix::io::Errno;
use satellite_core::{
    oci::{Algorithm, Digest, Repository},
    store::{Store, Writer},
};

use crate::{
    boundary::{aside, bytes, descriptor, parsed, room, run, set},
    codes::{Failure, Outcome, SATELLITE_NOT_FOUND, SATELLITE_STORE, system},
    handles::{StoreHandle, store},
};

/// Bytes appended at a time.
const PIECE: usize = 256 << 10;

fn missing(digest: &Digest) -> Failure {
    Failure(SATELLITE_NOT_FOUND, format!("blob {digest} is not in the store"))
}

/// The size of a blob in bytes; SATELLITE_NOT_FOUND if it is not there whole. Manifests are blobs, too.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_blob_size(handle: StoreHandle, digest: *const c_char, size: *mut u64) -> c_int {
    run(|| {
        let store = store(handle)?;
        let digest: Digest = parsed("digest", digest)?;
        set("size", size, 0)?;
        set("size", size, store.blob_size(&digest)?.ok_or_else(|| missing(&digest))?)
    })
}

/// Reads a blob from `offset` on into `buffer`: as much as it has and `room` takes. `read` gets how much; 0 is the end.
/// Bytes are as they are on the disk: satellite_store_verify finds those that have rotted.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_blob_read(
    handle: StoreHandle,
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
        set("read", read, read_range(&store, &digest, offset, buffer, room)?)
    })
}

fn read_range(store: &Store, digest: &Digest, offset: u64, buffer: *mut u8, length: usize) -> Outcome<usize> {
    let blob = store.open_blob(digest)?.ok_or_else(|| missing(digest))?;
    let into = room("buffer", buffer, length, blob.size.saturating_sub(offset))?;
    let mut done = 0;
    while done < into.len() {
        match rustix::io::pread(&*blob.file, &mut into[done..], offset + done as u64) {
            Ok(([], _)) => {
                let text = format!("blob {digest} is shorter on the disk than it was: verify the store");
                return Err(Failure(SATELLITE_STORE, text));
            }
            Ok((got, _)) => done += got.len(),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Failure(SATELLITE_STORE, format!("cannot read blob {digest}: {e}"))),
        }
    }
    Ok(done)
}

async fn begin(store: &Store, repository: &Repository, digest: &Digest, length: u64) -> Outcome<Writer> {
    let algorithm: Algorithm = digest.algorithm();
    let mut writer = store.begin_upload(repository, algorithm).await?;
    writer.reserve(length).await?;
    Ok(writer)
}

/// Where something is to be put, and under which digest.
pub(crate) fn addressed(
    handle: StoreHandle,
    repository: *const c_char,
    digest: *const c_char,
) -> Outcome<(Store, Repository, Digest)> {
    Ok((store(handle)?, parsed("repository", repository)?, parsed("digest", digest)?))
}

/// Stores `length` bytes as a blob of `repository`, durably. They must have the digest, or nothing is stored. Until a
/// manifest names the blob, satellite_store_gc may collect it once its grace is over.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_blob_put(
    handle: StoreHandle,
    repository: *const c_char,
    digest: *const c_char,
    data: *const u8,
    length: usize,
) -> c_int {
    run(|| {
        let (store, repository, digest) = addressed(handle, repository, digest)?;
        let data = bytes("data", data, length)?;
        let work = async {
            let mut writer = begin(&store, &repository, &digest, data.len() as u64).await?;
            for piece in data.chunks(PIECE) {
                writer.append(piece.to_vec().into()).await?;
            }
            writer.commit(&digest).await?;
            Ok(())
        };
        aside(|| block_on(work))
    })
}

/// As satellite_blob_put, with all that can be read from the open descriptor `fd`, which stays the caller's.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_blob_put_fd(
    handle: StoreHandle,
    repository: *const c_char,
    digest: *const c_char,
    fd: c_int,
) -> c_int {
    run(|| {
        let (store, repository, digest) = addressed(handle, repository, digest)?;
        let mut file = File::from(descriptor("fd", fd)?);
        let work = async {
            let mut writer = begin(&store, &repository, &digest, 0).await?;
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let got = (&mut file).take(PIECE as u64).read_to_end(&mut piece);
                if got.map_err(|e| system(&format!("cannot read from descriptor {fd}"), e))? == 0 {
                    break;
                }
                writer.append(piece.into()).await?;
            }
            writer.commit(&digest).await?;
            Ok(())
        };
        aside(|| block_on(work))
    })
}
