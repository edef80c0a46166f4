//! Lists, deletions, and what is refused.

use super::*;

#[test]
fn lists_come_in_pages_whose_links_lead_to_the_end() {
    smol::block_on(async {
        let home = home(
            Settings { page: 4, ..Settings::default() },
            Access { trust_loopback: true, ..Access::default() },
        );
        let (digest, manifest) = home.push_image("a", "t0", BLOB).await;
        for n in 1..7 {
            home.put(&format!("/v2/a/manifests/t{n}"), &manifest).await.is(201);
            home.push_image(&format!("a/r{n}"), "v", BLOB).await;
        }
        let mut sorted = Vec::new();
        for n in 0..7 {
            let kind = if n % 2 == 0 { "sig/x+y" } else { "sbom/x" };
            let text = image(BLOB, kind, &subject(&digest)).replacen('{', &format!(r#"{{"n":{n},"#), 1);
            let digest = Digest::sha256(text.as_bytes());
            home.put(&format!("/v2/a/manifests/{digest}"), &text).await.is(201);
            sorted.push((digest.to_string(), kind));
        }
        sorted.sort();
        let tags: Vec<String> = (0..7).map(|n| format!("t{n}")).collect();
        let names: Vec<String> =
            ["a".to_string()].into_iter().chain((1..7).map(|n| format!("a/r{n}"))).collect();
        let all: Vec<String> = sorted.iter().map(|(d, _)| d.clone()).collect();
        let signatures: Vec<String> =
            sorted.iter().filter(|(_, k)| *k == "sig/x+y").map(|(d, _)| d.clone()).collect();
        let referrers = format!("/v2/a/referrers/{digest}");
        for (path, entries, expected) in [
            ("/v2/a/tags/list".to_string(), "tags", &tags),
            ("/v2/_catalog".into(), "repositories", &names),
            (referrers.clone(), "manifests", &all),
            (format!("{referrers}?artifactType=sig%2Fx%2By"), "manifests", &signatures),
        ] {
            for (n, size) in [("", 4), ("n=3", 3), ("n=1", 1), ("n=100", 4), ("n=7", 4)] {
                let join = if path.contains('?') { "&" } else { "?" };
                let pages = home.pages(&format!("{path}{join}{n}"), entries).await;
                assert_eq!(&pages.concat(), expected, "{path} {n}");
                assert!(pages.iter().rev().skip(1).all(|p| p.len() == size), "{path} {n}: {pages:?}");
                assert!(pages.iter().all(|p| p.len() <= size && !p.is_empty()), "{path} {n}: {pages:?}");
            }
        }
        for (path, entries) in [("/v2/a/tags/list", "tags"), ("/v2/_catalog", "repositories")] {
            let none = home.get(&format!("{path}?n=0")).await.is(200);
            assert!(none.json()[entries].as_array().unwrap().is_empty() && none.header("link").is_empty());
            assert_eq!(home.get(&format!("{path}?n=x")).await.status, 400);
            assert_eq!(home.get(&format!("{path}?n=-1")).await.status, 400);
            let late = home.get(&format!("{path}?last=zzz")).await.is(200);
            assert!(late.json()[entries].as_array().unwrap().is_empty());
        }
        let got = home.get(&format!("{referrers}?artifactType=sbom/x")).await.is(200);
        assert_eq!(got.header("oci-filters-applied"), "artifactType");
        assert_eq!(got.header("content-type"), media_type::OCI_INDEX);
        assert_eq!(got.json()["manifests"][0]["artifactType"], "sbom/x");
        let nothing = home.get(&format!("/v2/none/referrers/{digest}")).await.is(200);
        assert!(nothing.json()["manifests"].as_array().unwrap().is_empty());
        assert!(nothing.header("oci-filters-applied").is_empty());
    });
}

#[test]
fn deleting_a_tag_leaves_the_manifest_and_deleting_a_manifest_takes_its_tags() {
    smol::block_on(async {
        let home = open();
        let (digest, manifest) = home.push_image("a", "one", BLOB).await;
        let blob = format!("/v2/a/blobs/{}", Digest::sha256(BLOB));
        home.put("/v2/a/manifests/two", &manifest).await.is(201);
        home.send("DELETE", "/v2/a/manifests/one", ask()).await.is(202);
        home.send("DELETE", "/v2/a/manifests/one", ask()).await.fails(404, "MANIFEST_UNKNOWN");
        home.get("/v2/a/manifests/one").await.is(404);
        home.get("/v2/a/manifests/two").await.is(200);
        let used = home.send("DELETE", &blob, ask()).await.fails(405, "DENIED");
        assert_eq!(used.json()["errors"][0]["detail"]["manifest"], digest.as_str());
        home.get(&blob).await.is(200);
        home.send("DELETE", &format!("/v2/a/manifests/{digest}"), ask()).await.is(202);
        home.get("/v2/a/manifests/two").await.is(404);
        home.get(&format!("/v2/a/manifests/{digest}")).await.is(404);
        home.get(&blob).await.is(200);
        home.send("DELETE", &blob, ask()).await.is(202);
        home.get(&blob).await.fails(404, "BLOB_UNKNOWN");
        home.send("DELETE", &blob, ask()).await.fails(404, "BLOB_UNKNOWN");
    });
}

#[test]
fn what_is_not_there_has_the_error_of_its_kind() {
    smol::block_on(async {
        let home = open();
        let digest = home.push_blob("a", BLOB).await;
        for (path, status, code) in [
            ("/v2/none/manifests/v", 404, "MANIFEST_UNKNOWN"),
            ("/v2/a/manifests/v", 404, "MANIFEST_UNKNOWN"),
            ("/v2/a/manifests/-", 404, "MANIFEST_UNKNOWN"),
            ("/v2/a/manifests/md5:00", 400, "DIGEST_INVALID"),
            ("/v2/a/blobs/sha256:00", 400, "DIGEST_INVALID"),
            (&format!("/v2/none/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
            ("/v2/none/tags/list", 404, "NAME_UNKNOWN"),
            ("/v2/A/tags/list", 400, "NAME_INVALID"),
            ("/v2/a/blobs/uploads/u-0", 404, "BLOB_UPLOAD_UNKNOWN"),
            ("/v2/a/blobs/uploads/..%2f..", 404, "BLOB_UPLOAD_UNKNOWN"),
            ("/v2/a", 404, "NOT_FOUND"),
            ("/", 404, "NOT_FOUND"),
        ] {
            home.get(path).await.fails(status, code);
        }
        let tags = home.get("/v2/a/tags/list").await.is(200);
        assert_eq!(tags.json(), serde_json::json!({"name": "a", "tags": []}), "it has a blob");
    });
}

#[test]
fn a_method_that_is_not_offered_is_405_and_says_which_are() {
    smol::block_on(async {
        let home = open();
        let digest = Digest::sha256(BLOB);
        for (path, methods, allowed) in [
            ("/v2/", "POST PUT PATCH DELETE", "GET, HEAD"),
            ("/v2/_catalog", "POST DELETE", "GET, HEAD"),
            ("/v2/a/tags/list", "POST PUT DELETE", "GET, HEAD"),
            (&format!("/v2/a/referrers/{digest}"), "POST DELETE", "GET, HEAD"),
            ("/v2/a/manifests/v", "POST PATCH OPTIONS", "GET, HEAD, PUT, DELETE"),
            (&format!("/v2/a/blobs/{digest}"), "POST PUT PATCH", "GET, HEAD, DELETE"),
            ("/v2/a/blobs/uploads/", "GET PUT PATCH DELETE", "POST"),
            ("/v2/a/blobs/uploads/u-1", "POST HEAD BREW", "GET, PATCH, PUT, DELETE"),
        ] {
            for method in methods.split(' ') {
                let got = home.send(method, path, ask()).await.is(405);
                assert_eq!(got.header("allow"), allowed, "{method} {path}");
            }
        }
    });
}

#[test]
fn a_read_only_registry_gives_and_takes_nothing() {
    smol::block_on(async {
        let home = home(
            Settings { read_only: true, ..Settings::default() },
            Access { trust_loopback: true, ..Access::default() },
        );
        let digest = home.replicate("one.test", "a", "v", BLOB).await;
        home.get("/v2/a/manifests/v").await.is(200);
        for (method, path) in [
            ("POST", "/v2/a/blobs/uploads/".to_string()),
            ("PUT", "/v2/a/manifests/w".into()),
            ("DELETE", "/v2/a/manifests/v".into()),
            ("DELETE", format!("/v2/a/manifests/{digest}")),
            ("DELETE", format!("/v2/a/blobs/{}", Digest::sha256(BLOB))),
        ] {
            home.send(method, &path, ask()).await.fails(405, "UNSUPPORTED");
        }
        home.get("/v2/a/manifests/v").await.is(200);
    });
}
