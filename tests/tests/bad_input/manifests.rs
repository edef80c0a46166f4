//! Manifests that are none, or that name what is not there.

use crate::{Victim, refused};
use satellite_tests::image::{Artifact, Image};
use satellite_tests::oci;
use serde_json::json;

#[test]
fn manifests_that_are_none_are_refused_and_leave_no_tag() {
    let victim = Victim::new();
    let good = String::from_utf8(victim.image.manifest.clone()).unwrap();
    let config = victim.image.blobs[0].digest.as_str();
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no JSON", b"hello".to_vec()),
        ("half of it", good.as_bytes()[..good.len() / 2].to_vec()),
        ("something after it", format!("{good}{good}").into()),
        ("no UTF-8", b"{\"schemaVersion\":2,\"x\":\"\xff\xfe\"}".to_vec()),
        ("an array", b"[]".to_vec()),
        ("a number", b"5".to_vec()),
        ("deep arrays", nested("[", "]").into()),
        (
            "deep objects",
            format!("{{\"schemaVersion\":2,\"x\":{}1{}}}", "{\"x\":".repeat(50_000), "}".repeat(50_000))
                .into(),
        ),
        ("10 MiB", format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "x".repeat(10 << 20)).into()),
        ("a key twice", good.replacen("\"schemaVersion\"", "\"config\":{},\"schemaVersion\"", 1).into()),
        ("a negative size", good.replacen("\"size\":", "\"size\":-", 1).into()),
        ("a size in words", good.replacen("\"size\":100000", "\"size\":\"many\"", 1).into()),
        ("a digest that is none", good.replacen(config, "sha256:../../etc/passwd", 1).into()),
        ("a digest in capitals", good.replacen(config, &config.to_uppercase(), 1).into()),
        (
            "layers that are no list",
            good.replacen("\"layers\":[", "\"layers\":{\"x\":[", 1).replacen("]", "]}", 1).into(),
        ),
    ];
    for (what, bytes) in &cases {
        let answer = victim.client.put("/v2/app/manifests/bad", oci::MANIFEST, bytes);
        refused(&answer, what);
        assert!(matches!(answer.status, 400 | 413), "{} for {what}", answer.status);
    }
    victim.client.get("/v2/app/manifests/bad").expect(404);
    let tags = victim.client.get("/v2/app/tags/list").expect(200).json();
    assert_eq!(tags["tags"], json!(["v1"]));
    victim.unharmed();
}

#[test]
fn a_manifest_under_another_digest_is_refused() {
    let victim = Victim::new();
    let wrong = format!("/v2/app/manifests/sha256:{}", "b".repeat(64));
    let answer = victim.client.put(&wrong, oci::MANIFEST, &victim.image.manifest);
    assert_eq!((answer.status, answer.code().as_str()), (400, "DIGEST_INVALID"), "{}", answer.text());
    victim.client.get(&wrong).expect(404);
    victim.unharmed();
}

#[test]
fn a_manifest_whose_blobs_are_not_there_is_refused_by_name() {
    let victim = Victim::new();
    let image = Image::new().noise(1000, 50).build();
    let answer = victim.client.put("/v2/app/manifests/v2", oci::MANIFEST, &image.manifest);
    assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN", "{}", answer.text());
    assert!(matches!(answer.status, 400 | 404), "{}", answer.status);
    // Blobs that are in another repository alone: refused, or taken and then whole here too.
    let answer = victim.client.put("/v2/other/manifests/v1", oci::MANIFEST, &victim.image.manifest);
    if answer.status == 201 {
        victim.image.check(&victim.client, "other", "v1");
    } else {
        assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN", "{}", answer.text());
    }
    victim.client.get("/v2/app/manifests/v2").expect(404);
    victim.unharmed();
}

#[test]
fn unknown_media_types_and_fields_are_kept_to_the_byte() {
    let victim = Victim::new();
    let strange = br#"{ "schemaVersion":2,	"mediaType":"application/vnd.acme.thing+json", "acme": [1.50, 1e2, "\u00e9"],"z":{}, "a":null }"#;
    victim.client.put("/v2/app/manifests/strange", "application/vnd.acme.thing+json", strange).expect(201);
    let answer = victim.client.get("/v2/app/manifests/strange").expect(200);
    assert_eq!(answer.body, strange);
    assert_eq!(answer.header("content-type"), Some("application/vnd.acme.thing+json"));
    assert_eq!(answer.header("docker-content-digest"), Some(oci::sha256(strange).as_str()));
    victim.unharmed();
}

#[test]
fn an_index_in_an_index_in_an_index_is_served_and_collected_without_recursing_to_death() {
    let victim = Victim::new();
    let mut nested = victim.image.clone();
    for _ in 0..60 {
        nested = Artifact::index(vec![nested]);
        victim
            .client
            .put(&format!("/v2/app/manifests/{}", nested.digest), &nested.media_type, &nested.manifest)
            .expect(201);
    }
    victim.client.put("/v2/app/manifests/deep", &nested.media_type, &nested.manifest).expect(201);
    let store = satellite_tests::satellite::Store::at(victim.dir.join("s"));
    store.run("gc", ["--grace", "0s"]).ok();
    victim.client.delete("/v2/app/manifests/v1").expect(202);
    store.run("gc", ["--grace", "0s"]).ok();
    victim.client.put("/v2/app/manifests/v1", &victim.image.media_type, &victim.image.manifest).expect(201);
    nested.check(&victim.client, "app", "deep");
    victim.unharmed();
}
