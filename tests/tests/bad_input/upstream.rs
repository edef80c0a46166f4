//! Upstreams that send what no registry should.

use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Blob, Image};
use satellite_tests::oci;
use satellite_tests::proxy::{Fault, Proxy};
use satellite_tests::satellite::{Server, Store};
use serde_json::json;

/// A satellite as upstream, behind a link; and a store to pull into.
struct Site {
    upstream: Server,
    link: Proxy,
    image: Artifact,
    store: Store,
    _dir: Dir,
}

fn site() -> Site {
    let dir = Dir::new();
    let upstream = Store::at(dir.join("u")).serve();
    let image = Image::new().noise(10_000, 1).build();
    image.push(&upstream.client(), "app", "v1");
    Site {
        link: Proxy::start(upstream.address()),
        store: Store::at(dir.join("s")),
        upstream,
        image,
        _dir: dir,
    }
}

impl Site {
    /// Pulls with that as the answer to every request for a manifest: must fail decently and leave nothing.
    fn hostile(&self, what: &str, media_type: &str, body: Vec<u8>) {
        let media_type = media_type.to_owned();
        self.link.on(move |seen, _| {
            if seen.is_manifest() { Fault::Answer(media_type.clone(), body.clone()) } else { Fault::Pass }
        });
        let said = self.store.pull(&format!("{}/app:v1", self.link.host())).decent();
        // 5: more than there is room for.
        assert!(matches!(said.code, Some(1 | 3 | 5 | 6 | 7)), "{what}: {said}");
        assert!(said.stderr.len() < 10_000, "{what}: a complaint of {} bytes", said.stderr.len());
        self.store.serve().client().get("/v2/app/manifests/v1").expect(404);
    }

    fn descriptor(&self, size: i64, digest: &str) -> Vec<u8> {
        let config = &self.image.blobs[0];
        json!({"schemaVersion": 2, "mediaType": oci::MANIFEST,
            "config": {"mediaType": config.media_type, "digest": config.digest, "size": config.bytes.len()},
            "layers": [{"mediaType": oci::LAYER, "digest": digest, "size": size}]})
        .to_string()
        .into_bytes()
    }
}

#[test]
fn manifests_that_are_none_end_a_pull_with_a_word_about_it() {
    let site = site();
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    site.hostile(
        "a login page",
        "text/html",
        b"<html><body>Please log in to HotelWiFi</body></html>".to_vec(),
    );
    site.hostile("no JSON", oci::MANIFEST, b"hello".to_vec());
    site.hostile("nothing", oci::MANIFEST, Vec::new());
    site.hostile("deep nesting", oci::MANIFEST, deep.into_bytes());
    site.hostile("64 MiB", oci::MANIFEST, format!("{{\"x\":\"{}\"}}", "x".repeat(64 << 20)).into_bytes());
    let digest = site.image.blobs[1].digest.clone();
    site.hostile("a layer with too small a size", oci::MANIFEST, site.descriptor(9_999, &digest));
    site.hostile("a layer with too large a size", oci::MANIFEST, site.descriptor(10_001, &digest));
    site.hostile("a negative size", oci::MANIFEST, site.descriptor(-1, &digest));
    site.hostile("an impossible size", oci::MANIFEST, site.descriptor(i64::MAX, &digest));
    site.hostile("a path for a digest", oci::MANIFEST, site.descriptor(5, "sha256:../../../../etc/passwd"));
    site.hostile("an unknown algorithm", oci::MANIFEST, site.descriptor(5, "crc32:00000000"));
    site.hostile(
        "schema 1",
        "application/vnd.docker.distribution.manifest.v1+json",
        br#"{"schemaVersion":1,"name":"app"}"#.to_vec(),
    );
}

#[test]
fn an_endless_manifest_is_not_read_to_its_end() {
    let site = site();
    site.link.on(|seen, _| if seen.is_manifest() { Fault::Long(1 << 40) } else { Fault::Pass });
    let said = site.store.pull(&format!("{}/app:v1", site.link.host())).decent();
    assert!(matches!(said.code, Some(1 | 6 | 7)), "{said}");
    assert!(site.link.bytes("/manifests/") < 200 << 20, "{} bytes were read", site.link.bytes("/manifests/"));
}

#[test]
fn the_same_layer_named_twice_is_fetched_once() {
    let site = site();
    let twice = Image::new().layer(Blob::noise(9_000, 3)).layer(Blob::noise(9_000, 3)).build();
    twice.push(&site.upstream.client(), "app", "twice");
    site.store.pull(&format!("{}/app:twice", site.link.host())).ok();
    assert_eq!(site.link.bytes(&twice.blobs[1].digest), 9_000);
    twice.check(&site.store.serve().client(), "app", "twice");
}
