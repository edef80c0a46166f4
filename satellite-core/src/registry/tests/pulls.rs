//! Manifests in and out, blobs out.

use super::*;

#[test]
fn a_manifest_that_cannot_be_taken_says_why_and_moves_no_tag() {
    smol::block_on(async {
        let home = open();
        home.push_blob("a", BLOB).await;
        let good = image(BLOB, "", "");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::OCI_INDEX,
            subject(&Digest::sha256(b"child"))
        );
        let other = Digest::sha256(b"other");
        let many = (0..33).map(|n| format!("tag=t{n}")).collect::<Vec<_>>().join("&");
        let long_type = format!("a/{}", "b".repeat(5000));
        for (path, kind, body, status, code) in [
            ("v", media_type::OCI_MANIFEST, image(b"missing", "", ""), 400, "MANIFEST_BLOB_UNKNOWN"),
            ("v", media_type::OCI_INDEX, index, 400, "MANIFEST_BLOB_UNKNOWN"),
            ("v", media_type::OCI_MANIFEST, good.replace("\"size\":10", "\"size\":11"), 400, "SIZE_INVALID"),
            ("v", media_type::OCI_MANIFEST, "{".into(), 400, "MANIFEST_INVALID"),
            ("v", media_type::OCI_MANIFEST, "[]".into(), 400, "MANIFEST_INVALID"),
            ("v", media_type::OCI_MANIFEST, String::new(), 400, "MANIFEST_INVALID"),
            ("v", media_type::OCI_MANIFEST, " ".repeat((4 << 20) + 1), 413, "MANIFEST_INVALID"),
            ("v", media_type::OCI_INDEX, good.clone(), 400, "MANIFEST_INVALID"),
            ("v", media_type::DOCKER_MANIFEST, good.clone(), 400, "MANIFEST_INVALID"),
            ("v", &long_type, "{}".into(), 400, "MANIFEST_INVALID"),
            (other.as_str(), media_type::OCI_MANIFEST, good.clone(), 400, "DIGEST_INVALID"),
            ("sha256:12", media_type::OCI_MANIFEST, good.clone(), 400, "DIGEST_INVALID"),
            ("v?tag=-bad", media_type::OCI_MANIFEST, good.clone(), 400, "MANIFEST_INVALID"),
            (&format!("v?{many}"), media_type::OCI_MANIFEST, good.clone(), 400, "MANIFEST_INVALID"),
        ] {
            let request = ask().with("content-type", kind).body(body);
            home.send("PUT", &format!("/v2/a/manifests/{path}"), request).await.fails(status, code);
            home.get("/v2/a/manifests/v").await.fails(404, "MANIFEST_UNKNOWN");
        }
        let endless = [&[b' '; 1 << 20][..]; 5];
        home.send("PUT", "/v2/a/manifests/v", ask().stream(&endless, false)).await.is(413);
        home.send("PUT", "/v2/a/manifests/v", ask().stream(&[b"{"], true))
            .await
            .fails(400, "MANIFEST_INVALID");
        assert_eq!(home.store.tags(&"a".parse().unwrap(), None).count(), 0);
    });
}

#[test]
fn a_manifest_is_given_out_as_the_bytes_that_came() {
    smol::block_on(async {
        let home = open();
        let about = Digest::sha256(b"not here yet");
        home.push_blob("a", BLOB).await;
        let text = image(BLOB, "x/y", &subject(&about)).replace(',', " ,\n");
        let digest = Digest::sha256(text.as_bytes());
        let got = home.put(&format!("/v2/a/manifests/{digest}?tag=one&tag=two"), &text).await.is(201);
        assert_eq!(got.location(), format!("/v2/a/manifests/{digest}"));
        assert_eq!(got.header("oci-subject"), about.as_str());
        let tags: Vec<_> = got.headers.get_all("oci-tag").iter().collect();
        assert_eq!(tags, ["one", "two"]);
        for reference in ["one", "two", digest.as_str()] {
            let got = home.get(&format!("/v2/a/manifests/{reference}")).await.is(200);
            assert_eq!(
                (&got.body[..], got.header("content-type")),
                (text.as_bytes(), media_type::OCI_MANIFEST)
            );
            assert_eq!(got.header("docker-content-digest"), digest.as_str());
        }
    });
}

#[test]
fn head_says_what_get_says_without_the_body() {
    smol::block_on(async {
        let home = open();
        let (digest, _) = home.push_image("a", "v", BLOB).await;
        let blob = Digest::sha256(BLOB);
        for path in [
            "/v2/a/manifests/v".to_string(),
            format!("/v2/a/manifests/{digest}"),
            format!("/v2/a/blobs/{blob}"),
            "/v2/a/manifests/none".into(),
            format!("/v2/a/blobs/{}", Digest::sha256(b"none")),
            "/v2/a/tags/list".into(),
            "/v2/_catalog".into(),
            format!("/v2/a/referrers/{digest}"),
            "/v2/".into(),
            "/v2/none/tags/list".into(),
            "/healthz".into(),
        ] {
            let get = home.get(&path).await;
            let mut head = home.send("HEAD", &path, ask()).await;
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            let length = head.headers.remove("content-length").expect("the length that GET has");
            assert_eq!(length.to_str().unwrap(), get.body.len().to_string(), "{path}");
            assert_eq!(head.headers, get.headers, "{path}");
        }
    });
}

#[test]
fn who_has_it_already_is_told_so() {
    smol::block_on(async {
        let home = open();
        let (digest, _) = home.push_image("a", "v", BLOB).await;
        let blob = Digest::sha256(BLOB);
        for (path, digest) in [
            ("/v2/a/manifests/v".to_string(), &digest),
            (format!("/v2/a/manifests/{digest}"), &digest),
            (format!("/v2/a/blobs/{blob}"), &blob),
        ] {
            for (header, status) in [
                (format!("\"{digest}\""), 304),
                (format!("W/\"{digest}\""), 304),
                (digest.to_string(), 304),
                (format!("\"x\", \"{digest}\""), 304),
                ("*".into(), 304),
                ("\"x\"".into(), 200),
                (String::new(), 200),
                ("\"\"".into(), 200),
            ] {
                for method in ["GET", "HEAD"] {
                    let got = home.send(method, &path, ask().with("if-none-match", header.clone())).await;
                    assert_eq!(got.status, status, "{method} {path} {header}");
                    assert_eq!(got.header("etag"), format!("\"{digest}\""));
                    assert!(status == 200 || got.body.is_empty());
                }
            }
            let two = ask().with("if-none-match", "\"x\"").with("if-none-match", format!("\"{digest}\""));
            home.send("GET", &path, two).await.is(304);
        }
    });
}

#[test]
fn parts_of_a_blob_are_given_as_http_says() {
    smol::block_on(async {
        let home = open();
        let digest = home.push_blob("a", BLOB).await;
        let path = format!("/v2/a/blobs/{digest}");
        let (same, other) = (format!("\"{digest}\""), "\"other\"".to_string());
        for (range, if_range, status, body, content_range) in [
            ("bytes=2-4", None, 206, "234", "bytes 2-4/10"),
            ("bytes=7-", None, 206, "789", "bytes 7-9/10"),
            ("bytes=-2", None, 206, "89", "bytes 8-9/10"),
            ("bytes=5-99", None, 206, "56789", "bytes 5-9/10"),
            ("bytes=2-4", Some(&same), 206, "234", "bytes 2-4/10"),
            ("bytes=2-4", Some(&other), 200, "0123456789", ""),
            ("bytes=99-", Some(&other), 200, "0123456789", ""),
            ("bytes=0-1,3-4", None, 200, "0123456789", ""),
            ("bytes=x", None, 200, "0123456789", ""),
        ] {
            let mut request = ask().with("range", range);
            if let Some(value) = if_range {
                request = request.with("if-range", value);
            }
            let got = home.send("GET", &path, request).await.is(status);
            assert_eq!(
                (&got.body[..], got.header("content-range")),
                (body.as_bytes(), content_range),
                "{range}"
            );
            assert_eq!(got.header("accept-ranges"), "bytes");
        }
        for range in ["bytes=10-", "bytes=-0", "bytes=4-2"] {
            let got = home.send("GET", &path, ask().with("range", range)).await.is(416);
            assert_eq!(got.header("content-range"), "bytes */10", "{range}");
        }
    });
}
