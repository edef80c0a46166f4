//! Blobs that are streamed while they are stored.

use super::*;

#[test]
fn a_first_pull_streams_while_the_rest_is_still_on_its_way() {
    let site = Site::new();
    let image = Image::new().noise(6 * MIB, 1).build();
    site.push(&image, "app", "v1");
    site.manifest("app", "v1").expect(200);
    let digest = image.blobs[1].digest.clone();
    let stalling = digest.clone();
    site.link.on(move |seen, before| {
        let stall = seen.is_blob() && seen.target.contains(&stalling) && before == 0;
        if stall { Fault::StallAfter(4 * MIB as u64) } else { Fault::Pass }
    });
    let target = format!("/v2/app/blobs/{digest}?ns={}", site.link.host());
    let mut connection = site.client().connect().unwrap();
    connection.write_request(&Request::new("GET", &target)).unwrap();
    let head = connection.read_head().unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), Some(image.blobs[1].bytes.len().to_string().as_str()));
    let mut got = Vec::new();
    connection.read_body(3 * MIB as u64, &mut got).unwrap();
    assert_eq!(
        got,
        image.blobs[1].bytes[..3 * MIB],
        "what has come is given out, though the link stands still"
    );
    // A range of what is still arriving.
    let part =
        site.client().send(&Request::new("GET", &target).header("Range", "bytes=1000-1999")).expect(206);
    assert_eq!(part.body, image.blobs[1].bytes[1000..2000]);
    assert_eq!(
        part.header("content-range").unwrap(),
        format!("bytes 1000-1999/{}", image.blobs[1].bytes.len())
    );
}

#[test]
fn fifty_first_pulls_at_once_cost_the_upstream_one() {
    let site = Site::new();
    let image = Image::new().noise(4 * MIB, 1).noise(2 * MIB, 2).build();
    site.push(&image, "app", "v1");
    site.link.limit(6_000_000);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| site.check(&image, "app", "v1"));
        }
    });
    for blob in &image.blobs {
        assert_eq!(site.link.bytes(&blob.digest), blob.bytes.len() as u64, "{}", blob.digest);
    }
    let manifests = site.link.seen("/manifests/").len();
    assert!(manifests <= 2, "{manifests} requests for manifests");
}

#[test]
fn a_client_that_leaves_does_not_stop_the_store() {
    let site = Site::new();
    let image = Image::new().noise(4 * MIB, 1).noise(MIB, 2).build();
    site.push(&image, "app", "v1");
    site.manifest("app", "v1").expect(200);
    site.link.limit(4_000_000);
    let target = format!("/v2/app/blobs/{}?ns={}", image.blobs[1].digest, site.link.host());
    let mut connection = site.client().connect().unwrap();
    connection.write_request(&Request::new("GET", &target)).unwrap();
    connection.read_head().unwrap();
    drop(connection);
    // The layer that was begun, and the rest of its image too.
    site.settles(&image);
    site.link.on(|_, _| Fault::Close);
    site.check(&image, "app", "v1");
}

#[test]
fn looking_at_a_manifest_and_its_config_fetches_no_layer() {
    let site = Site::new();
    let image = Image::new().noise(MIB, 1).build();
    site.push(&image, "app", "v1");
    site.manifest("app", "v1").expect(200);
    assert_eq!(site.blob("app", &image.blobs[0].digest).expect(200).body, image.blobs[0].bytes);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(site.link.bytes(&image.blobs[1].digest), 0);
    assert_eq!(
        site.client()
            .head(&format!("/v2/app/blobs/{}?ns={}", image.blobs[1].digest, site.link.host()))
            .expect(200)
            .header("content-length"),
        Some(MIB_TEXT)
    );
    assert_eq!(site.link.bytes(&image.blobs[1].digest), 0);
}

const MIB_TEXT: &str = "1048576";

#[test]
fn a_wrong_digest_cuts_the_connection_and_leaves_nothing() {
    let site = Site::with(&["--revalidate", "1h", "--stall-timeout", "2s"]);
    let image = Image::new().noise(2 * MIB, 1).build();
    site.push(&image, "app", "v1");
    site.manifest("app", "v1").expect(200);
    let digest = image.blobs[1].digest.clone();
    let wrong = digest.clone();
    site.link.on(move |seen, _| {
        if seen.is_blob() && seen.target.contains(&wrong) {
            Fault::WrongByte(MIB as u64)
        } else {
            Fault::Pass
        }
    });
    let got = site.blob("app", &digest);
    assert!(got.status != 200 || !got.whole, "wrong bytes were given out as a whole");
    assert!(got.body.len() < image.blobs[1].bytes.len());
    let blob = site.store.dir().join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    assert!(!blob.exists());
    let partial = site.store.dir().join(".satellite/partial");
    wait::until(Duration::from_secs(20), "nothing is left of it", || {
        fs::read_dir(&partial).unwrap().next().is_none().then_some(())
    });
    site.link.behave();
    site.check(&image, "app", "v1");
}

#[test]
fn a_link_that_breaks_in_mid_blob_is_no_concern_of_the_client() {
    let site = Site::new();
    let image = Image::new().noise(5 * MIB, 1).build();
    site.push(&image, "app", "v1");
    let digest = image.blobs[1].digest.clone();
    site.link.on(move |seen, _| {
        if seen.is_blob() && seen.target.contains(&digest) {
            Fault::DropAfter(MIB as u64)
        } else {
            Fault::Pass
        }
    });
    site.check(&image, "app", "v1");
    let crossed = site.link.bytes(&image.blobs[1].digest);
    assert!(crossed < 6 * MIB as u64, "{crossed} bytes crossed the link");
}

#[test]
fn the_replicator_joins_what_a_client_began() {
    let site = Site::new();
    let image = Image::new().noise(4 * MIB, 1).build();
    site.push(&image, "app", "v1");
    site.manifest("app", "v1").expect(200);
    site.link.limit(2_000_000);
    let target = format!("/v2/app/blobs/{}?ns={}", image.blobs[1].digest, site.link.host());
    let mut connection = site.client().connect().unwrap();
    connection.write_request(&Request::new("GET", &target)).unwrap();
    connection.read_head().unwrap();
    site.store.pull(&format!("{}/app:v1", site.link.host())).ok();
    let mut got = Vec::new();
    connection.read_body(4 * MIB as u64, &mut got).unwrap();
    assert_eq!(got, image.blobs[1].bytes);
    assert_eq!(site.link.bytes(&image.blobs[1].digest), image.blobs[1].bytes.len() as u64);
    // Replicated now: listed, and its tag is the repository's own.
    let tags = site.client().get("/v2/app/tags/list").expect(200).json();
    assert_eq!(tags["tags"][0], "v1");
}

#[test]
fn a_manifest_whose_blobs_cannot_be_had_is_not_answered() {
    let site = Site::new();
    let image = Image::new().noise(MIB, 1).build();
    site.push(&image, "app", "v1");
    for fault in [Fault::status(404), Fault::status(403)] {
        site.link.on(move |seen, _| if seen.is_blob() { fault.clone() } else { Fault::Pass });
        site.manifest("app", "v1").expect(404);
    }
    site.link.behave();
    site.check(&image, "app", "v1");
}
