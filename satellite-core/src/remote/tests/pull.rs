//! Manifests and blobs, over sockets.

use std::io;

use super::*;
use crate::{
    net::client::script::{Reply, head, reply, run},
    oci::media_type,
};

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

fn manifest(extra: &str) -> Reply {
    reply(
        "200 OK",
        &format!("Content-Type: {}; charset=utf-8\r\n{extra}", media_type::OCI_MANIFEST),
        MANIFEST,
    )
}

#[test]
fn a_manifest_comes_with_its_digest_and_its_type() {
    run(async |executor| {
        let digest = Digest::sha256(MANIFEST.as_bytes());
        let header = format!("Docker-Content-Digest: {digest}\r\n");
        let server = Script::start(move |s| match (s.method.as_str(), s.header("if-none-match")) {
            ("HEAD", _) => head("200 OK", &format!("Content-Length: 19\r\nContent-Type: x/y\r\n{header}")),
            (_, Some(_)) => head("304 Not Modified", ""),
            _ => manifest(&header),
        });
        let registry = registry(&server, quick(), executor);
        let got = registry.get_manifest(&app(), &tag(), None).await.unwrap();
        let expected = Fetched::Manifest {
            bytes: MANIFEST.into(),
            media_type: media_type::OCI_MANIFEST.into(),
            digest: digest.clone(),
        };
        assert_eq!(got, expected);
        assert_eq!(registry.get_manifest(&app(), &tag(), Some(&digest)).await.unwrap(), Fetched::NotModified);
        let head = registry.head_manifest(&app(), &tag()).await.unwrap();
        assert_eq!(
            head,
            ManifestHead { digest: Some(digest.clone()), media_type: "x/y".into(), size: Some(19) }
        );
        let seen = server.seen();
        assert_eq!(seen[0].target, "/v2/edge/app/manifests/v1");
        assert_eq!(seen[0].header("accept"), Some(media_type::ACCEPT_MANIFESTS));
        assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
        assert!(seen[0].header("user-agent").unwrap().starts_with("satellite/"));
        assert_eq!(seen[1].header("if-none-match"), Some(format!("\"{digest}\"").as_str()));
        assert!(seen.iter().all(|s| s.connection == 0));
    });
}

#[test]
fn other_bytes_than_named_are_refused() {
    run(async |executor| {
        let other = Digest::sha256(b"other");
        let header = format!("Docker-Content-Digest: {other}\r\n");
        let server = Script::start(move |s| match s.target.rsplit('/').next() {
            Some("header") => manifest(&header),
            Some("odd") => manifest("Docker-Content-Digest: md5:00\r\n"),
            Some("gzip") => manifest("Content-Encoding: gzip\r\n"),
            Some("wrapped") => reply("404 Not Found", "Content-Encoding: gzip\r\n", "\x1f\x08"),
            Some("large") => head("200 OK", "Content-Length: 4194305\r\n"),
            _ => manifest(""),
        });
        let registry = registry(&server, quick(), executor);
        let get = async |reference: &str| {
            let reference = reference.parse().unwrap();
            registry.get_manifest(&app(), &reference, None).await.unwrap_err()
        };
        let named = Digest::sha256(b"other");
        assert!(matches!(get(named.as_str()).await, Error::Digest { .. }));
        assert!(matches!(get("header").await, Error::Digest { .. }));
        assert!(matches!(get("odd").await, Error::Protocol { .. }));
        assert!(matches!(get("gzip").await, Error::Encoded { .. }));
        assert!(matches!(get("large").await, Error::TooLarge { .. }));
        assert!(get("wrapped").await.is_not_found());
        assert_eq!(server.seen().len(), 6, "none of them is worth another try");
        // By SHA-512 the bytes are checked by SHA-512.
        let long: Reference =
            Reference::Digest(Digest::of(crate::oci::Algorithm::Sha512, MANIFEST.as_bytes()));
        assert!(registry.get_manifest(&app(), &long, None).await.is_ok());
    });
}

#[test]
fn trouble_is_tried_again_within_bounds() {
    run(async |executor| {
        let mut failures = 0;
        let server = Script::start(move |s| {
            failures += 1;
            match (s.target.rsplit('/').next(), failures) {
                (Some("v1"), 1) => reply("503 Unavailable", "Retry-After: 0\r\n", ""),
                (Some("v1"), 2) => Reply::Cut(Vec::new()),
                (Some("v1"), 3) => Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{".to_vec()),
                (Some("v1"), _) => manifest(""),
                (Some("later"), _) => reply("429 Too Many", "Retry-After: 7200\r\n", ""),
                (Some("odd"), _) => reply("418 Teapot", "", "short and stout"),
                _ => {
                    reply("404 Not Found", "", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"gone"}]}"#)
                }
            }
        });
        let registry = registry(&server, quick(), executor);
        assert!(registry.get_manifest(&app(), &tag(), None).await.is_ok());
        assert_eq!(server.seen().len(), 4);

        let error = registry.get_manifest(&app(), &"later".parse().unwrap(), None).await.unwrap_err();
        assert_eq!((error.status(), error.retry_after()), (Some(429), Some(Duration::from_secs(7200))));
        let error = registry.get_manifest(&app(), &"gone".parse().unwrap(), None).await.unwrap_err();
        assert!(error.is_not_found() && !error.is_retryable());
        assert_eq!(
            error.to_string(),
            format!("{}/edge/app:gone: status 404 (MANIFEST_UNKNOWN: gone)", server.host())
        );
        let error = registry.get_manifest(&app(), &"odd".parse().unwrap(), None).await.unwrap_err();
        assert!(error.to_string().ends_with("status 418 (short and stout)"), "{error}");
        assert_eq!(server.seen().len(), 7);
    });
}

#[test]
fn a_blob_resumes_where_the_registry_can_and_says_so_where_it_cannot() {
    run(async |executor| {
        let server = Script::start(|s| {
            let (range, mode) = (s.header("range"), s.target.split('/').nth(2).unwrap());
            match (mode, range) {
                ("good", None) => reply("200 OK", "ETag: \"strong\"\r\n", "0123456789"),
                ("good", Some("bytes=4-")) => reply(
                    "206 Partial Content",
                    "Content-Range: bytes 4-9/10\r\nETag: W/\"weak\"\r\n",
                    "456789",
                ),
                ("good", _) => reply("416 Range Not Satisfiable", "Content-Range: bytes */10\r\n", "no"),
                ("wrong", _) => reply("206 Partial Content", "Content-Range: bytes 0-9/10\r\n", "0123456789"),
                ("gone", _) => reply("404 Not Found", "", ""),
                _ => reply("200 OK", "", "0123456789"),
            }
        });
        let registry = registry(&server, quick(), executor);
        let digest = Digest::sha256(b"0123456789");
        let open =
            async |mode: &str, offset| registry.open_blob(&mode.parse().unwrap(), &digest, offset).await;

        let blob = open("good", 0).await.unwrap();
        assert_eq!((blob.offset, blob.total), (0, Some(10)));
        assert_eq!(all(blob.stream).await.unwrap(), b"0123456789");
        let blob = open("good", 4).await.unwrap();
        assert_eq!((blob.offset, blob.total), (4, Some(10)));
        assert_eq!(all(blob.stream).await.unwrap(), b"456789");
        let error = open("good", 10).await.unwrap_err();
        assert!(matches!(error, Error::Range { offset: 10, total: Some(10), .. }), "{error}");
        assert_eq!(error.status(), Some(416));
        let blob = open("none", 4).await.unwrap();
        assert_eq!((blob.offset, blob.total), (0, Some(10)));
        assert_eq!(all(blob.stream).await.unwrap(), b"0123456789");
        assert!(matches!(open("wrong", 4).await, Err(Error::Protocol { .. })));
        assert!(open("gone", 0).await.unwrap_err().is_not_found());
        let sent: Vec<_> = server.seen().iter().map(|s| s.header("if-range").map(String::from)).collect();
        let strong = Some("\"strong\"".to_string());
        // The validator is the blob's at this host, whatever repository it is in.
        assert_eq!(sent[..4], [None, strong.clone(), strong.clone(), strong]);
    });
}

#[test]
fn a_redirect_takes_no_credentials_and_no_validators_along() {
    run(async |executor| {
        let storage = Script::start(|s| match s.header("range") {
            Some(_) => reply("206 Partial Content", "Content-Range: bytes 3-9/10\r\n", "3456789"),
            None => reply("200 OK", "ETag: \"storage\"\r\n", "0123456789"),
        });
        let there = storage.url("/bucket/x?X-Amz-Signature=a%2Fb");
        let server = Script::start(move |s| match (s.target.as_str(), s.header("authorization")) {
            (_, None) => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", ""),
            ("/moved", _) => reply("307 Temporary Redirect", &format!("Location: {there}\r\n"), "see there"),
            (t, _) if t.contains("loop") => reply("302 Found", &format!("Location: {t}\r\n"), ""),
            (t, _) if t.contains("file") => reply("302 Found", "Location: file:///etc/passwd\r\n", ""),
            _ => reply("302 Found", "Location: /moved\r\nETag: \"registry\"\r\n", ""),
        });
        let registry = registry(&server, password(), executor);
        let digest = Digest::sha256(b"0123456789");
        for (offset, length) in [(0, 10), (3, 7)] {
            let blob = registry.open_blob(&app(), &digest, offset).await.unwrap();
            assert_eq!((blob.offset, blob.total), (offset, (offset == 0).then_some(10).or(Some(10))));
            assert_eq!(all(blob.stream).await.unwrap().len(), length);
        }
        assert!(server.seen().iter().skip(1).all(|s| s.header("authorization") == Some(BASIC)));
        assert!(server.seen().iter().all(|s| s.header("if-range").is_none()));
        let seen = storage.seen();
        assert_eq!(seen[0].target, "/bucket/x?X-Amz-Signature=a%2Fb");
        assert!(seen.iter().all(|s| s.header("authorization").is_none()));
        assert_eq!(seen[1].header("if-range"), Some("\"storage\""));
        assert_eq!(seen[1].header("range"), Some("bytes=3-"));

        let before = server.seen().len();
        let error = registry.open_blob(&"loop/x".parse().unwrap(), &digest, 0).await.unwrap_err();
        assert!(error.to_string().contains("redirects"), "{error}");
        assert_eq!(server.seen().len() - before, 6);
        let error = registry.open_blob(&"file/x".parse().unwrap(), &digest, 0).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    });
}

#[test]
fn a_401_of_the_storage_is_not_about_our_credentials() {
    run(async |executor| {
        let storage = Script::start(|_| reply("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", ""));
        let there = storage.url("/x?signature=hidden");
        let server = Script::start(move |_| reply("302 Found", &format!("Location: {there}\r\n"), ""));
        let error = registry(&server, password(), executor)
            .open_blob(&app(), &Digest::sha256(b""), 0)
            .await
            .unwrap_err();
        assert!(error.is_unauthorized() && error.to_string().starts_with(&storage.host()), "{error}");
        assert!(!format!("{error:?}").contains("hidden"));
        assert_eq!((storage.seen().len(), server.seen().len()), (1, 1));
    });
}

#[test]
fn a_blob_that_stalls_or_is_cut_ends_with_an_error() {
    run(async |executor| {
        let server = Script::start(|s| {
            let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
            if s.target.contains("stall") { Reply::Hang(half) } else { Reply::Cut(half) }
        });
        let options = Options { stall_timeout: Duration::from_millis(100), ..quick() };
        let registry = registry(&server, options, executor);
        for (repository, kind) in [("stall", io::ErrorKind::TimedOut), ("cut", io::ErrorKind::UnexpectedEof)]
        {
            let blob =
                registry.open_blob(&repository.parse().unwrap(), &Digest::sha256(b""), 0).await.unwrap();
            let mut stream = blob.stream;
            assert_eq!(stream.next().await.unwrap().unwrap(), "half");
            assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), kind, "{repository}");
        }
    });
}

#[test]
fn a_blobs_length_is_asked_for() {
    run(async |executor| {
        let server = Script::start(|s| match s.target.split('/').nth(2) {
            Some("there") => head("200 OK", "Content-Length: 10737418240\r\n"),
            Some("gone") => head("404 Not Found", ""),
            _ => head("200 OK", "Transfer-Encoding: chunked\r\n"),
        });
        let registry = registry(&server, quick(), executor);
        let digest = Digest::sha256(b"");
        let ask = async |repository: &str| registry.head_blob(&repository.parse().unwrap(), &digest).await;
        assert_eq!(ask("there").await.unwrap(), Some(10_737_418_240));
        assert_eq!(ask("gone").await.unwrap(), None);
        assert!(matches!(ask("odd").await, Err(Error::Protocol { .. })));
    });
}
