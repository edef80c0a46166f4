//! Names of upstreams and origins.

use super::*;

#[test]
fn a_tag_that_two_upstreams_have_is_given_out_only_as_the_one_it_came_from() {
    smol::block_on(async {
        let home = open();
        let docker = home.replicate("docker.io", "library/x", "v", b"of docker").await;
        for path in ["/v2/library/x/manifests/v?ns=docker.io", "/v2/docker.io/library/x/manifests/v"] {
            home.get(path).await.is(200);
        }
        home.replicate("quay.io", "library/x", "v", b"of quay").await;
        for (path, status) in [
            ("/v2/library/x/manifests/v?ns=quay.io", 200),
            ("/v2/quay.io/library/x/manifests/v", 200),
            ("/v2/library/x/manifests/v?ns=docker.io", 404),
            ("/v2/docker.io/library/x/manifests/v", 404),
            ("/docker.io/v2/library/x/manifests/v", 404),
            // By digest content is what it is.
            (&format!("/v2/library/x/manifests/{docker}?ns=docker.io"), 200),
        ] {
            assert_eq!(home.get(path).await.status, status, "{path}");
        }
        // The same content from both is both's, a rebuilt index knows it too, and so does the next content's host alone.
        home.replicate("docker.io", "library/x", "v", b"of quay").await;
        for host in ["docker.io", "quay.io"] {
            home.get(&format!("/v2/library/x/manifests/v?ns={host}")).await.is(200);
        }
    });
}

#[test]
fn an_upstream_has_three_spellings_and_its_content_is_never_anothers() {
    smol::block_on(async {
        let home = open();
        home.replicate("docker.io", "library/x", "v", b"of docker").await;
        home.replicate("one.test:5000", "team/y", "v", b"of one").await;
        home.push_image("own/z", "v", b"own").await;
        for (path, status) in [
            ("/v2/library/x/manifests/v", 200),
            ("/v2/library/x/manifests/v?ns=docker.io", 200),
            ("/v2/library/x/manifests/v?ns=registry-1.docker.io", 200),
            ("/docker.io/v2/library/x/manifests/v", 200),
            ("/v2/docker.io/library/x/manifests/v", 200),
            ("/v2/library/x/tags/list?ns=quay.io", 404),
            ("/v2/library/x/manifests/v?ns=quay.io", 404),
            ("/quay.io/v2/library/x/manifests/v", 404),
            ("/v2/quay.io/library/x/manifests/v", 404),
            ("/v2/team/y/manifests/v?ns=one.test:5000", 200),
            ("/v2/team/y/manifests/v?ns=one.test%3A5000", 200),
            ("/v2/team/y/manifests/v?ns=ONE.test:5000", 200),
            ("/one.test:5000/v2/team/y/manifests/v", 200),
            ("/v2/one.test:5000/team/y/manifests/v", 200),
            ("/v2/team/y/manifests/v?ns=one.test", 404),
            ("/v2/one.test/team/y/manifests/v", 404),
            ("/v2/own/z/manifests/v", 200),
            ("/v2/own/z/manifests/v?ns=any.test", 200),
            ("/docker.io/v2/", 200),
        ] {
            for method in ["GET", "HEAD"] {
                assert_eq!(home.send(method, path, ask()).await.status, status, "{method} {path}");
            }
        }
        let blob = Digest::sha256(b"of docker");
        home.get(&format!("/v2/library/x/blobs/{blob}?ns=docker.io")).await.is(200);
        home.get(&format!("/v2/library/x/blobs/{blob}?ns=quay.io")).await.fails(404, "NAME_UNKNOWN");
        // A project of that name wins over an upstream's.
        home.push_image("docker.io/library/x", "v", b"a project").await;
        let got = home.get("/v2/docker.io/library/x/manifests/v").await.is(200);
        assert_eq!(got.body, image(b"a project", "", ""));
    });
}

#[test]
fn a_manifest_whose_blob_was_lost_is_not_there_until_the_blob_is_back() {
    smol::block_on(async {
        for sparse in [false, true] {
            let home = home(
                Settings { sparse, ..Settings::default() },
                Access { trust_loopback: true, ..Access::default() },
            );
            let (digest, _) = home.push_image("a", "v", BLOB).await;
            let file = home.dir.path().join("blobs/sha256").join(Digest::sha256(BLOB).hex());
            for shorter in [true, false] {
                if shorter {
                    std::fs::write(&file, &BLOB[..3]).unwrap();
                } else {
                    std::fs::remove_file(&file).unwrap();
                }
                let expected = if sparse { 200 } else { 404 };
                for path in ["/v2/a/manifests/v".to_string(), format!("/v2/a/manifests/{digest}")] {
                    home.get(&path).await.is(expected);
                    home.send("HEAD", &path, ask()).await.is(expected);
                }
            }
            home.push_blob("a", BLOB).await;
            home.get("/v2/a/manifests/v").await.is(200);
            std::fs::remove_file(home.dir.path().join("blobs/sha256").join(digest.hex())).unwrap();
            // It was read before and is right; one that was not is missing.
            home.get("/v2/a/manifests/v").await.is(200);
            let (other, _) = home.push_image("a", "w", b"another").await;
            std::fs::remove_file(home.dir.path().join("blobs/sha256").join(other.hex())).unwrap();
            home.get("/v2/a/manifests/w").await.fails(404, "MANIFEST_UNKNOWN");
        }
    });
}

#[test]
fn what_was_replicated_under_another_name_is_found_by_its_origins_in_all_spellings_until_the_rules_change() {
    smol::block_on(async {
        let mut home = open();
        let cell: Arc<NamesCell> = Arc::default();
        home.registry = home.registry.with_names(cell.clone());
        let digest = home.replicate("harbor.test", "dockerhub/library/nginx", "v", b"of harbor").await;
        let blob = Digest::sha256(b"of harbor");
        let paths = |what: &str| {
            [
                format!("/v2/library/nginx/{what}?ns=docker.io"),
                format!("/v2/docker.io/library/nginx/{what}"),
                format!("/docker.io/v2/library/nginx/{what}"),
            ]
        };
        let all = ["manifests/v", &format!("manifests/{digest}"), &format!("blobs/{blob}"), "tags/list"];
        let rule = |text: &str| Names::new([text.parse().unwrap()]).unwrap();
        for (names, status) in [
            (Names::default(), 404),
            (rule("docker.io=dockerhub"), 200),
            (rule("docker.io/library/nginx=dockerhub/library/nginx"), 200),
            (rule("docker.io=elsewhere"), 404),
            (rule("quay.io=dockerhub"), 404),
        ] {
            cell.set(names);
            for path in all.iter().flat_map(|what| paths(what)) {
                assert_eq!(home.get(&path).await.status, status, "{path} by {:?}", cell.get());
            }
            home.get("/v2/dockerhub/library/nginx/manifests/v").await.is(200);
        }
        // Docker's mirrors are of docker.io, and older ones cannot say so.
        cell.set(rule("docker.io=dockerhub"));
        let plain = "/v2/library/nginx/manifests/v";
        home.get(plain).await.fails(404, "MANIFEST_UNKNOWN");
        let docker = || ask().with("user-agent", "docker/20.10.24+dfsg1 go/go1.19.8");
        home.send("GET", plain, docker()).await.is(200);
        home.push_image("library/nginx", "own", b"own").await;
        home.send("GET", plain, docker()).await.fails(404, "MANIFEST_UNKNOWN");
        home.send("GET", "/v2/library/nginx/manifests/own", docker()).await.is(200);
        // What the rule's target does not have is looked for as without the rule.
        cell.set(rule("docker.io=dockerhub"));
        home.replicate("docker.io", "library/nginx", "old", b"of docker").await;
        home.get("/v2/library/nginx/manifests/old?ns=docker.io").await.is(200);
    });
}
