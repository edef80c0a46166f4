//! What goes in comes out.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    io::{Seek, Write},
    os::fd::AsRawFd,
    ptr::{null, null_mut},
};

use super::*;

const CONFIG: &str = "{}";

fn digest_of(data: &str) -> CString {
    let mut text = [0; SATELLITE_DIGEST_ROOM];
    assert_eq!(satellite_digest(data.as_ptr(), data.len(), text.as_mut_ptr(), text.len()), SATELLITE_OK);
    let bytes: Vec<u8> = text.iter().map(|b| b.cast_unsigned()).take_while(|b| *b != 0).collect();
    CString::new(bytes).unwrap()
}

fn put(store: StoreHandle, data: &str) -> CString {
    let digest = digest_of(data);
    let code = satellite_blob_put(store, c"a/b".as_ptr(), digest.as_ptr(), data.as_ptr(), data.len());
    assert_eq!(code, SATELLITE_OK, "{}", last_error());
    digest
}

#[test]
fn a_blob_goes_in_and_comes_out_by_range() {
    let (_dir, store) = open();
    let (digest, mut read, mut buffer, mut size) = (c(HELLO), 0, [0u8; 8], 0);
    let wrong = satellite_blob_put(store, c"a/b".as_ptr(), digest.as_ptr(), c"hallo".as_ptr().cast(), 5);
    assert_eq!(wrong, SATELLITE_CONTENT);
    assert!(last_error().contains("nothing was stored"), "{}", last_error());
    assert_eq!(satellite_blob_size(store, digest.as_ptr(), &raw mut size), SATELLITE_NOT_FOUND);
    assert_eq!(put(store, "hello"), digest);
    assert_eq!(satellite_blob_size(store, digest.as_ptr(), &raw mut size), SATELLITE_OK);
    assert_eq!((size, last_error().as_str()), (5, ""));
    let mut at = |offset, room| {
        let code =
            satellite_blob_read(store, digest.as_ptr(), offset, buffer.as_mut_ptr(), room, &raw mut read);
        assert_eq!(code, SATELLITE_OK);
        buffer[..read].to_vec()
    };
    assert_eq!(at(1, 3), b"ell");
    assert_eq!(at(3, 8), b"lo");
    assert_eq!(at(0, usize::MAX), b"hello");
    assert_eq!(at(5, 8), b"");
    assert_eq!(at(u64::MAX, 8), b"");
    assert_eq!(at(0, 0), b"");
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
}

#[test]
fn a_blob_comes_from_a_file_and_the_file_stays_open() {
    let (dir, store) = open();
    let mut file = std::fs::File::create_new(dir.path().join("from")).unwrap();
    let whole = "0123456789".repeat(100_000);
    file.write_all(whole.as_bytes()).unwrap();
    let mut file = std::fs::File::open(dir.path().join("from")).unwrap();
    let digest = digest_of(&whole);
    let put = |fd| satellite_blob_put_fd(store, c"a/b".as_ptr(), digest.as_ptr(), fd);
    assert_eq!(put(file.as_raw_fd()), SATELLITE_OK, "{}", last_error());
    assert_eq!(file.stream_position().unwrap(), whole.len() as u64);
    assert_eq!(put(file.as_raw_fd()), SATELLITE_CONTENT);
    for none in [-1, c_int::MIN, 1 << 20] {
        assert_eq!(put(none), SATELLITE_ARGUMENT, "{none}");
    }
    let mut size = 0;
    assert_eq!(satellite_blob_size(store, digest.as_ptr(), &raw mut size), SATELLITE_OK);
    assert_eq!(size, whole.len() as u64);
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
}

extern "C" fn collect(context: *mut c_void, image: *const ImageOut) -> c_int {
    // SAFETY: what the test gave, and what the library promises.
    let (list, image) = unsafe { (&mut *context.cast::<Vec<String>>(), &*image) };
    let text = |p: *const c_char| {
        // SAFETY: a string or NULL.
        if p.is_null() { "-".into() } else { unsafe { CStr::from_ptr(p) }.to_str().unwrap().to_string() }
    };
    list.push(format!("{} {} {}", text(image.repository), text(image.tag), text(image.digest)));
    c_int::from(list.len() == 3)
}

#[test]
fn an_image_is_put_resolved_listed_removed_and_collected() {
    let (_dir, store) = open();
    let (config, layer) = (put(store, CONFIG), put(store, "layer"));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":5}}]}}"#,
        config.to_str().unwrap(),
        layer.to_str().unwrap()
    );
    let digest = digest_of(&manifest);
    let put = |tag: *const c_char| {
        let (data, length) = (manifest.as_ptr(), manifest.len());
        satellite_manifest_put(store, c"a/b".as_ptr(), digest.as_ptr(), tag, data, length)
    };
    assert_eq!(put(c"v 1".as_ptr()), SATELLITE_ARGUMENT);
    for tag in [c"v1".as_ptr(), c"v2".as_ptr(), null()] {
        assert_eq!(put(tag), SATELLITE_OK, "{}", last_error());
    }
    // SAFETY: numbers and arrays of numbers.
    let mut out: ManifestOut = unsafe { std::mem::zeroed() };
    let mut resolve = |reference: &CStr| {
        satellite_manifest_resolve(store, c"a/b".as_ptr(), reference.as_ptr(), &raw mut out)
    };
    assert_eq!(resolve(c"v3"), SATELLITE_NOT_FOUND);
    assert_eq!(resolve(&digest), SATELLITE_OK);
    assert_eq!(resolve(c"v1"), SATELLITE_OK);
    // SAFETY: both end with a zero.
    let (named, kind) =
        unsafe { (CStr::from_ptr(out.digest.as_ptr()), CStr::from_ptr(out.media_type.as_ptr())) };
    assert_eq!((named, kind), (&*digest, c"application/vnd.oci.image.manifest.v1+json"));
    assert_eq!(out.size, manifest.len() as u64);

    let list = || {
        let mut list: Vec<String> = Vec::new();
        (satellite_image_list(store, Some(collect), (&raw mut list).cast()), list)
    };
    let line = |tag: &str| format!("a/b {tag} {}", digest.to_str().unwrap());
    assert_eq!(list(), (SATELLITE_CANCELLED, vec![line("v1"), line("v2"), line("-")]));
    let remove = |reference: &CStr| satellite_image_remove(store, c"a/b".as_ptr(), reference.as_ptr());
    assert_eq!(remove(c"v1"), SATELLITE_OK);
    assert_eq!(remove(c"v1"), SATELLITE_NOT_FOUND);
    assert_eq!(list(), (SATELLITE_OK, vec![line("v2"), line("-")]));
    let mut freed = 0;
    assert_eq!(satellite_store_gc(store, 0, &raw mut freed), SATELLITE_OK);
    assert_eq!(freed, 0);
    assert_eq!(remove(&digest), SATELLITE_OK);
    assert_eq!(satellite_store_gc(store, -1, &raw mut freed), SATELLITE_OK);
    assert_eq!(freed, 0, "it is younger than an hour");
    assert_eq!(satellite_store_gc(store, 0, &raw mut freed), SATELLITE_OK);
    assert_eq!(freed, manifest.len() as u64 + 7);
    assert_eq!(satellite_store_gc(store, 0, null_mut()), SATELLITE_OK);
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
}

extern "C" fn count(context: *mut c_void, finding: *const c_char) -> c_int {
    assert!(!finding.is_null());
    // SAFETY: what the test gave.
    unsafe { *context.cast::<u32>() += 1 };
    9
}

#[test]
fn what_has_rotted_is_found_and_set_aside() {
    let (dir, store) = open();
    for data in ["hello", "other"] {
        let digest = put(store, data);
        let hex = digest.to_str().unwrap().split_once(':').unwrap().1;
        std::fs::write(dir.path().join("blobs/sha256").join(hex), "hallo").unwrap();
    }
    let (mut told, mut findings) = (0u32, 0);
    let mut verify = |mend, call| {
        let context = (&raw mut told).cast();
        satellite_store_verify(store, mend, call, context, &raw mut findings)
    };
    assert_eq!(verify(3, None), SATELLITE_ARGUMENT);
    assert_eq!(verify(SATELLITE_MEND_NOTHING, Some(count)), SATELLITE_CANCELLED);
    assert_eq!(verify(SATELLITE_MEND_SET_ASIDE, None), SATELLITE_OK);
    assert_eq!((findings, told), (2, 1));
    let mut size = 0;
    assert_eq!(satellite_blob_size(store, c(HELLO).as_ptr(), &raw mut size), SATELLITE_NOT_FOUND);
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
}

#[test]
fn a_store_is_kept_as_the_options_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = c(dir.path().to_str().unwrap());
    let mut store = 0;
    let mut options = StoreOptions {
        size: size_of::<StoreOptions>(),
        cap: 4,
        floor: 1,
        grace_seconds: 1,
        threads: 1,
        reserved: 0,
    };
    let code = satellite_store_open(path.as_ptr(), &raw const options, &raw mut store);
    assert_eq!(code, SATELLITE_OK, "{}", last_error());
    let digest = c(HELLO);
    let code = satellite_blob_put(store, c"a/b".as_ptr(), digest.as_ptr(), c"hello".as_ptr().cast(), 5);
    assert_eq!(code, SATELLITE_NO_SPACE, "{}", last_error());
    // SAFETY: numbers.
    let mut usage: Usage = unsafe { std::mem::zeroed() };
    assert_eq!(satellite_store_usage(store, &raw mut usage), SATELLITE_OK);
    assert_eq!((usage.blobs, usage.bytes, usage.available), (0, 0, 4));
    assert!(usage.free > 0);
    let mut second = 0;
    assert_eq!(satellite_store_open(path.as_ptr(), null(), &raw mut second), SATELLITE_LOCKED);
    assert_eq!(satellite_store_close(store), SATELLITE_OK);
    options.size = 8;
    assert_eq!(satellite_store_open(path.as_ptr(), &raw const options, &raw mut store), SATELLITE_ARGUMENT);
}
