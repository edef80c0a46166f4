#![allow(clippy::unwrap_used, clippy::expect_used)]
//! The store as its callers see it.

use std::{fs, time::Duration};

use bytes::Bytes;
use futures_lite::{StreamExt, future};

use super::*;
use crate::oci::{Algorithm, Manifest, Reference, media_type};

const NO_GRACE: Option<Duration> = Some(Duration::ZERO);

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { floor: 0, ..Options::default() }).unwrap()
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn push(store: &Store, repository: &Repository, content: &Bytes) -> Digest {
    let digest = Digest::sha256(content);
    let mut writer = store.begin_upload(repository, Algorithm::Sha256).await.unwrap();
    for piece in content.chunks(100_000) {
        writer.append(content.slice_ref(piece)).await.unwrap();
    }
    assert_eq!(writer.commit(&digest).await.unwrap(), content.len() as u64);
    digest
}

fn image(blobs: &[&Bytes], subject: Option<&Digest>) -> (Digest, Manifest) {
    let entry =
        |b: &&Bytes| format!(r#"{{"mediaType":"a/b","digest":"{}","size":{}}}"#, Digest::sha256(b), b.len());
    let subject = subject
        .map(|d| {
            format!(r#","subject":{{"mediaType":"{}","digest":"{d}","size":1}}"#, media_type::OCI_MANIFEST)
        })
        .unwrap_or_default();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]{subject}}}"#,
        media_type::OCI_MANIFEST,
        entry(&blobs[0]),
        blobs[1..].iter().map(entry).collect::<Vec<_>>().join(",")
    );
    (Digest::sha256(text.as_bytes()), Manifest::parse(text, None).unwrap())
}

fn tagged(tag: &str) -> Put {
    Put { tags: vec![tag.parse().unwrap()], ..Put::default() }
}

fn read(store: &Store, digest: &Digest) -> Option<Vec<u8>> {
    let blob = store.open_blob(digest).unwrap()?;
    let mut bytes = Vec::new();
    (&*blob.file).read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

#[test]
fn an_image_survives_closing_and_a_lost_index() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (noise(1, 3_000_000), noise(2, 10));
    let repo = repository("edge/app");
    let (digest, manifest) = image(&[&b, &a], None);
    smol::block_on(async {
        let store = open(dir.path());
        push(&store, &repo, &a).await;
        push(&store, &repo, &b).await;
        store.put_manifest(&repo, &digest, manifest.clone(), tagged("v1")).await.unwrap();
        store.refresh_layout().await.unwrap();
    });
    for lose_index in [false, true] {
        if lose_index {
            fs::write(dir.path().join(".satellite/index/db"), noise(3, 700_000)).unwrap();
        }
        let store = open(dir.path());
        let info = store.manifest(&repo, &"v1".parse().unwrap()).unwrap().expect("the tag is there");
        assert_eq!((&info.digest, &info.media_type[..]), (&digest, media_type::OCI_MANIFEST));
        assert_eq!(store.manifest_bytes(&info).unwrap().unwrap(), manifest.raw);
        assert_eq!(read(&store, &Digest::sha256(&a)).unwrap(), a);
        assert!(store.is_linked(&repo, &Digest::sha256(&b)).unwrap());
    }
}

#[test]
fn an_upload_goes_on_at_its_last_checkpoint_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(4, 20_000_000);
    let digest = Digest::sha256(&content);
    let repo = repository("a");
    let id = smol::block_on(async {
        let store = open(dir.path());
        let mut writer = store.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
        writer.append(content.slice(..10_000_001)).await.unwrap();
        assert_eq!(writer.checkpoint().await.unwrap(), 10_000_001);
        // Taken but not checkpointed: lost with the process.
        writer.append(content.slice(10_000_001..10_300_000)).await.unwrap();
        writer.id().to_string()
    });
    smol::block_on(async {
        let store = open(dir.path());
        let other = store.resume_upload(&repository("b"), &id).await;
        assert!(matches!(other, Err(Error::UploadUnknown(_))));
        let mut writer = store.resume_upload(&repo, &id).await.unwrap();
        assert!(matches!(store.resume_upload(&repo, &id).await, Err(Error::UploadBusy(_))));
        assert_eq!(writer.offset(), 10_000_001);
        writer.append(content.slice(10_000_001..)).await.unwrap();
        writer.commit(&digest).await.unwrap();
        assert_eq!(read(&store, &digest).unwrap(), content);
        assert_eq!(fs::read_dir(dir.path().join(".satellite/partial")).unwrap().count(), 0);
        for bad in ["", "../../x", "u-zz", &id] {
            assert!(matches!(store.resume_upload(&repo, bad).await, Err(Error::UploadUnknown(_))), "{bad}");
        }
    });
}

#[test]
fn wrong_bytes_are_never_named() {
    let dir = tempfile::tempdir().unwrap();
    smol::block_on(async {
        let store = open(dir.path());
        let wanted = Digest::sha256(b"right");
        let Receive::Lead(mut writer) = store.receive(&wanted, None).await.unwrap() else {
            panic!("nobody else is there")
        };
        writer.append(Bytes::from_static(b"wrong")).await.unwrap();
        let error = writer.commit(&wanted).await.unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert!(store.blob_size(&wanted).unwrap().is_none() && store.resumable(&wanted) == 0);
        let sha512 = Digest::of(Algorithm::Sha512, b"right");
        let mut writer = store.begin_upload(&repository("a"), Algorithm::Sha256).await.unwrap();
        writer.append(Bytes::from_static(b"right")).await.unwrap();
        writer.commit(&sha512).await.unwrap();
        assert_eq!(read(&store, &sha512).unwrap(), b"right");
    });
}

#[test]
fn readers_follow_an_arrival_and_see_its_end_only_when_it_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(5, 1_000_000);
    let digest = Digest::sha256(&content);
    smol::block_on(async {
        let store = open(dir.path());
        for good in [false, true] {
            let Receive::Lead(mut writer) = store.receive(&digest, None).await.unwrap() else {
                panic!("leads")
            };
            let Receive::Join(arrival) = store.receive(&digest, None).await.unwrap() else { panic!("joins") };
            let collect = |offset| {
                let mut stream = arrival.clone().follow(offset);
                async move {
                    let mut all = Vec::new();
                    while let Some(piece) = stream.next().await {
                        all.extend_from_slice(&piece.map_err(|_| all.len())?);
                    }
                    Ok::<_, usize>(all)
                }
            };
            let write = async {
                let bytes = if good { content.clone() } else { noise(6, content.len()) };
                for piece in bytes.chunks(70_000) {
                    writer.append(bytes.slice_ref(piece)).await.unwrap();
                    future::yield_now().await;
                }
                writer.commit(&digest).await.is_ok()
            };
            let ((whole, tail), stored) = future::zip(future::zip(collect(0), collect(999_000)), write).await;
            assert_eq!(stored, good);
            if good {
                assert_eq!((&whole.unwrap()[..], &tail.unwrap()[..]), (&content[..], &content[999_000..]));
            } else {
                assert!(whole.unwrap_err() < content.len(), "a wrong blob must not look whole");
            }
        }
        assert!(matches!(store.receive(&digest, None).await.unwrap(), Receive::Present(1_000_000)));
    });
}

#[test]
fn a_transfer_given_up_leaves_its_bytes_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(7, 9_000_000);
    let digest = Digest::sha256(&content);
    smol::block_on(async {
        let store = open(dir.path());
        let Receive::Lead(mut writer) = store.receive(&digest, None).await.unwrap() else { panic!("leads") };
        writer.append(content.slice(..5_000_000)).await.unwrap();
        assert_eq!(writer.park("cut").await.unwrap(), 5_000_000);
        assert_eq!(store.resumable(&digest), 5_000_000);
        let Receive::Lead(mut writer) = store.receive(&digest, None).await.unwrap() else { panic!("leads") };
        let Receive::Join(arrival) = store.receive(&digest, None).await.unwrap() else { panic!("joins") };
        assert_eq!(writer.offset(), 5_000_000);
        writer.append(content.slice(5_000_000..)).await.unwrap();
        writer.commit(&digest).await.unwrap();
        assert_eq!(arrival.ended().await, Outcome::Stored(9_000_000));
    });
}

#[test]
fn collection_takes_what_nothing_holds_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c, d) = (noise(1, 1000), noise(2, 1000), noise(3, 1000), noise(4, 1000));
    let repo = repository("r");
    smol::block_on(async {
        let store = open(dir.path());
        for blob in [&a, &b, &c, &d] {
            push(&store, &repo, blob).await;
        }
        let (old, old_manifest) = image(&[&a, &b], None);
        let (new, new_manifest) = image(&[&a, &c], None);
        let (signature, signature_manifest) = image(&[&d], Some(&new));
        store.put_manifest(&repo, &old, old_manifest, tagged("v")).await.unwrap();
        store.put_manifest(&repo, &new, new_manifest, tagged("v")).await.unwrap();
        store.put_manifest(&repo, &signature, signature_manifest, Put::default()).await.unwrap();
        assert_eq!(store.gc(None).await.unwrap().blobs, 0, "all of it is young");
        let lease = store.lease(&old);
        let report = store.gc(NO_GRACE).await.unwrap();
        assert_eq!((report.blobs, report.manifests), (0, 0), "a leased manifest holds what it reaches");
        drop(lease);
        let report = store.gc(NO_GRACE).await.unwrap();
        assert_eq!((report.blobs, report.manifests), (2, 1));
        assert!(read(&store, &Digest::sha256(&b)).is_none());
        let history = store.tag(&repo, &"v".parse().unwrap()).unwrap().unwrap().history;
        assert_eq!(history[0].0, old);
        assert_eq!(store.referrers(&repo, &new, None).count(), 1);
        assert!(store.remove_manifest(&repo, &new).await.unwrap());
        assert!(store.tag(&repo, &"v".parse().unwrap()).unwrap().is_none());
        store.gc(NO_GRACE).await.unwrap();
        assert_eq!(store.usage().await.unwrap().blobs, 0);
        assert!(!store.has_repository(&repo).unwrap());
    });
}

#[test]
fn a_pin_holds_an_image_without_a_tag() {
    let dir = tempfile::tempdir().unwrap();
    let a = noise(1, 1000);
    let repo = repository("r");
    smol::block_on(async {
        let store = open(dir.path());
        push(&store, &repo, &a).await;
        let (digest, manifest) = image(&[&a], None);
        store.put_manifest(&repo, &digest, manifest, Put { pin: true, ..Put::default() }).await.unwrap();
        store.gc(NO_GRACE).await.unwrap();
        assert!(store.manifest(&repo, &Reference::Digest(digest.clone())).unwrap().is_some());
        assert!(store.unpin(&repo, &digest).await.unwrap());
        store.gc(NO_GRACE).await.unwrap();
        assert_eq!(store.usage().await.unwrap().blobs, 0);
    });
}

#[test]
fn a_manifest_needs_its_blobs_and_children_unless_it_is_sparse() {
    let dir = tempfile::tempdir().unwrap();
    let a = noise(1, 1000);
    let repo = repository("r");
    smol::block_on(async {
        let store = open(dir.path());
        let (digest, manifest) = image(&[&a], None);
        let error = store.put_manifest(&repo, &digest, manifest.clone(), Put::default()).await.unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }));
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{digest}","size":1}}]}}"#,
            media_type::OCI_INDEX,
            media_type::OCI_MANIFEST
        );
        let (top, index) = (Digest::sha256(text.as_bytes()), Manifest::parse(text, None).unwrap());
        assert!(store.put_manifest(&repo, &top, index.clone(), tagged("v")).await.is_err());
        assert!(store.tag(&repo, &"v".parse().unwrap()).unwrap().is_none());
        let sparse = Put { sparse: Sparse::Children, ..tagged("v") };
        store.put_manifest(&repo, &top, index.clone(), sparse).await.unwrap();
        let wrong = store.put_manifest(&repo, &digest, index, Put::default()).await.unwrap_err();
        assert!(matches!(wrong, Error::DigestMismatch { .. }));
    });
}

#[test]
fn a_check_finds_what_rotted_and_repair_sets_it_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (noise(1, 100_000), noise(2, 100_000));
    let repo = repository("r");
    smol::block_on(async {
        let store = open(dir.path());
        push(&store, &repo, &a).await;
        push(&store, &repo, &b).await;
        let (digest, manifest) = image(&[&a, &b], None);
        store.put_manifest(&repo, &digest, manifest, tagged("v")).await.unwrap();
        assert!(store.fsck(Mend::Nothing, |_, _| ()).await.unwrap().findings.is_empty());
        let path = dir.path().join("blobs/sha256").join(Digest::sha256(&a).hex());
        let mut rotten = a.to_vec();
        rotten[50_000] ^= 1;
        fs::write(&path, rotten).unwrap();
        fs::create_dir(dir.path().join("blobs/sha256/lost+found")).unwrap();
        let found = store.fsck(Mend::All, |_, _| ()).await.unwrap().findings;
        assert!(
            matches!(&found[..], [Finding::CorruptBlob { .. }, Finding::MissingBlob { .. }]),
            "{found:?}"
        );
        assert!(read(&store, &Digest::sha256(&a)).is_none(), "never served again");
        push(&store, &repo, &a).await;
        assert!(store.fsck(Mend::All, |_, _| ()).await.unwrap().findings.is_empty());
    });
}

#[test]
fn a_second_opener_is_told_who_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path());
    let error = Store::open(dir.path(), Options::default()).map(drop).unwrap_err();
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
}

#[test]
fn a_symlink_in_the_place_of_a_blob_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = Digest::sha256(b"x");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("blobs/sha256").join(digest.hex())).unwrap();
    assert!(store.open_blob(&digest).unwrap().is_none() && store.blob_size(&digest).unwrap().is_none());
}

#[test]
fn a_full_disk_is_refused_before_a_byte_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { floor: u64::MAX, ..Options::default() }).unwrap();
    smol::block_on(async {
        let mut writer = store.begin_upload(&repository("a"), Algorithm::Sha256).await.unwrap();
        assert!(writer.reserve(1).await.unwrap_err().is_no_space());
    });
}

/// A repository with one tagged image of one blob, in a store that is closed.
fn image_at_rest(dir: &Path, refresh: bool) -> (Repository, Digest) {
    let (repo, a) = (repository("r"), noise(1, 1000));
    let (digest, manifest) = image(&[&a], None);
    let store = open(dir);
    smol::block_on(async {
        push(&store, &repo, &a).await;
        store.put_manifest(&repo, &digest, manifest, tagged("v")).await.unwrap();
        if refresh {
            store.refresh_layout().await.unwrap();
        }
    });
    (repo, digest)
}

fn is_tagged(store: &Store, repository: &Repository, digest: &Digest) -> bool {
    store.tag(repository, &"v".parse().unwrap()).unwrap().is_some_and(|t| t.digest == *digest)
}

#[test]
fn a_collection_does_not_begin_between_a_publishers_look_at_it_and_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let publishing = store.inner.gate.read().unwrap();
    std::thread::scope(|scope| {
        let collection = scope.spawn(|| smol::block_on(store.gc(NO_GRACE)).unwrap());
        let begun = Instant::now();
        while !store.inner.is_collecting() && begun.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        assert!(!store.inner.is_collecting(), "what is being published would not be marked");
        drop(publishing);
        collection.join().unwrap();
    });
}

#[test]
fn a_collection_whose_caller_went_away_ends_before_the_next_begins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let publishing = store.inner.gate.read().unwrap();
    // It waits for the publisher in a thread of the pool when its caller gives up.
    let waits = || store.inner.gate.try_read().is_err();
    let gives_up = async {
        while !waits() {
            async_io::Timer::after(Duration::from_millis(1)).await;
        }
        None
    };
    let asked = smol::block_on(future::or(async { Some(store.gc(NO_GRACE).await) }, gives_up));
    assert!(asked.is_none());
    assert!(store.inner.gc.turn.try_lock().is_none(), "the next would take its marks away");
    drop(publishing);
    smol::block_on(store.gc(NO_GRACE)).unwrap();
}

#[test]
fn a_rebuild_that_a_crash_ended_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let (repo, digest) = image_at_rest(dir.path(), true);
    let private = dir.path().join(".satellite");
    fs::remove_dir_all(private.join("index")).unwrap();
    // A new index with the first of its changes, and then nothing: the process ended.
    let known = layout::written_at(&dir.path().join("index.json"));
    let (index, _) = Index::open(&private, known).unwrap();
    let mut batch = Batch::default();
    batch.put(index::key(Kind::Link, &repo, &digest.key()), Vec::new());
    batch.count_it();
    index.commit(batch).unwrap();
    drop(index);
    assert!(is_tagged(&open(dir.path()), &repo, &digest));
}

#[test]
fn an_index_file_that_a_power_cut_left_empty_is_not_taken_for_a_new_one() {
    for left in [0, 700_000] {
        let dir = tempfile::tempdir().unwrap();
        let (repo, digest) = image_at_rest(dir.path(), true);
        fs::write(dir.path().join(".satellite/index/db"), vec![0; left]).unwrap();
        assert!(is_tagged(&open(dir.path()), &repo, &digest), "{left} zero bytes");
    }
}

#[test]
fn what_a_crash_kept_out_of_the_layout_comes_into_it_with_the_next_refresh() {
    let dir = tempfile::tempdir().unwrap();
    let (repo, digest) = image_at_rest(dir.path(), false);
    smol::block_on(open(dir.path()).refresh_layout()).unwrap();
    fs::remove_dir_all(dir.path().join(".satellite/index")).unwrap();
    assert!(is_tagged(&open(dir.path()), &repo, &digest));
}

#[test]
fn a_layout_of_other_tools_brings_the_children_of_its_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let (_, child) = image_at_rest(dir.path(), false);
    fs::remove_dir_all(dir.path().join(".satellite")).unwrap();
    let describe =
        |kind: &str, digest: &Digest| format!(r#""mediaType":"{kind}","digest":"{digest}","size":1"#);
    let index =
        format!(r#"{{"schemaVersion":2,"manifests":[{{{}}}]}}"#, describe(media_type::OCI_MANIFEST, &child));
    let top = Digest::sha256(index.as_bytes());
    fs::write(dir.path().join("blobs/sha256").join(top.hex()), &index).unwrap();
    let layout = format!(
        r#"{{"schemaVersion":2,"manifests":[{{{},"annotations":{{"org.opencontainers.image.ref.name":"x/y:v"}}}}]}}"#,
        describe(media_type::OCI_INDEX, &top)
    );
    fs::write(dir.path().join("index.json"), layout).unwrap();
    let (store, repo) = (open(dir.path()), repository("x/y"));
    assert!(is_tagged(&store, &repo, &top));
    assert!(store.manifest(&repo, &Reference::Digest(child)).unwrap().is_some());
}

#[test]
fn an_upload_that_rested_for_days_is_young_when_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (repo, a) = (repository("r"), noise(1, 1000));
    let digest = Digest::sha256(&a);
    let hour = Duration::from_secs(3600);
    smol::block_on(async {
        let store = open(dir.path());
        let mut writer = store.begin_upload(&repo, Algorithm::Sha256).await.unwrap();
        writer.append(a).await.unwrap();
        let id = writer.id().to_string();
        writer.park("resting").await.unwrap();
        let path = dir.path().join(".satellite/partial").join(&id);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - 100 * hour).unwrap();
        store.resume_upload(&repo, &id).await.unwrap().commit(&digest).await.unwrap();
        // As after a restart.
        store.inner.untouch(&digest);
        store.gc(Some(hour)).await.unwrap();
        assert!(store.blob_size(&digest).unwrap().is_some());
    });
}

#[test]
fn a_collection_takes_the_temporary_files_of_a_crash_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    image_at_rest(dir.path(), true);
    let blobs = dir.path().join("blobs/sha256");
    let hex = Digest::sha256(b"x").hex().to_string();
    let ours = [blobs.join(format!("{hex}.0123abcd.tmp")), dir.path().join("index.json.0123abcd.tmp")];
    let others = [blobs.join("notes.tmp"), blobs.join("x.0123abcd.tmp"), dir.path().join("my.0123abcd.tmp")];
    for path in ours.iter().chain(&others) {
        fs::write(path, "x").unwrap();
    }
    smol::block_on(open(dir.path()).gc(NO_GRACE)).unwrap();
    assert!(ours.iter().all(|p| !p.exists()) && others.iter().all(|p| p.exists()));
}

#[test]
fn a_blob_of_an_image_stays_in_its_repository() {
    let dir = tempfile::tempdir().unwrap();
    let (repo, digest) = image_at_rest(dir.path(), false);
    let store = open(dir.path());
    let blob = Digest::sha256(&noise(1, 1000));
    smol::block_on(async {
        let error = store.unlink_blob(&repo, &blob).await.unwrap_err();
        assert!(matches!(&error, Error::BlobInUse { manifest, .. } if *manifest == digest), "{error}");
        assert!(store.is_linked(&repo, &blob).unwrap());
        store.remove_manifest(&repo, &digest).await.unwrap();
        assert!(store.unlink_blob(&repo, &blob).await.unwrap());
    });
}
