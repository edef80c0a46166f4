//! What is here in part, and what is counted.

use super::*;

#[test]
fn a_sparse_registry_takes_an_index_whose_children_are_elsewhere_and_warns() {
    smol::block_on(async {
        let home = home(
            Settings { sparse: true, ..Settings::default() },
            Access { trust_loopback: true, ..Access::default() },
        );
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::OCI_INDEX,
            subject(&Digest::sha256(b"child"))
        );
        let request = ask().with("content-type", media_type::OCI_INDEX).body(index.clone());
        let got = home.send("PUT", "/v2/a/manifests/v", request).await.is(201);
        assert!(got.header("warning").starts_with("299 - "));
        assert_eq!(home.get("/v2/a/manifests/v").await.is(200).body, index);
        let got = home.put("/v2/a/manifests/w", &image(b"missing", "", "")).await.is(201);
        assert_eq!(got.header("warning"), "");
    });
}

#[test]
fn metrics_count_requests_and_bytes() {
    smol::block_on(async {
        let home = open();
        home.push_image("a", "v", BLOB).await;
        home.get("/v2/a/manifests/none").await.is(404);
        home.send("BREW", "/v2/a/manifests/v", ask()).await.is(405);
        home.get("/nowhere").await.is(404);
        home.get(&format!("/v2/a/blobs/{}", Digest::sha256(BLOB))).await.is(200);
        let got = home.get("/metrics").await.is(200);
        assert!(got.header("content-type").starts_with("text/plain"));
        let text = String::from_utf8(got.body.to_vec()).unwrap();
        for line in [
            r#"satellite_requests_total{route="upload",method="POST",status="201"} 1"#,
            r#"satellite_requests_total{route="manifest",method="PUT",status="201"} 1"#,
            r#"satellite_requests_total{route="manifest",method="GET",status="404"} 1"#,
            r#"satellite_requests_total{route="manifest",method="other",status="405"} 1"#,
            r#"satellite_requests_total{route="unknown",method="GET",status="404"} 1"#,
            r#"satellite_requests_total{route="blob",method="GET",status="200"} 1"#,
            "satellite_received_bytes_total 10",
            "satellite_blobs 2",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let gauge = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("a gauge");
            line.trim().parse::<u64>().unwrap()
        };
        assert!(gauge("satellite_free_bytes ") > 0 && gauge("satellite_index_syncs ") > 0);
        assert_eq!(gauge("satellite_stored_bytes "), 10 + image(BLOB, "", "").len() as u64);
    });
}

#[test]
fn replicated_platforms_of_an_index_are_given_out_without_the_others() {
    smol::block_on(async {
        let home = open();
        let child = home.replicate("one.test", "a", "child", BLOB).await;
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
            media_type::OCI_INDEX,
            subject(&child),
            subject(&Digest::sha256(b"another platform"))
        );
        let put = Put { tags: vec!["v".parse().unwrap()], sparse: Sparse::Children, ..Put::default() };
        let digest = Digest::sha256(text.as_bytes());
        let manifest = Manifest::parse(text.clone(), None).unwrap();
        home.store.put_manifest(&"a".parse().unwrap(), &digest, manifest, put).await.unwrap();
        assert_eq!(home.get("/v2/a/manifests/v").await.is(200).body, text);
        home.get(&format!("/v2/a/manifests/{child}")).await.is(200);
        let other = Digest::sha256(b"another platform");
        home.get(&format!("/v2/a/manifests/{other}")).await.fails(404, "MANIFEST_UNKNOWN");
    });
}
