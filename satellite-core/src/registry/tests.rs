#![allow(clippy::unwrap_used, clippy::expect_used)]
//! The registry as one function: a request in, an answer out, no sockets.

use std::{io, net::SocketAddr, os::unix::fs::FileExt};

use bytes::Bytes;
use futures_lite::stream;
use proptest::prelude::*;

use super::*;
use crate::{
    oci::{Algorithm, Manifest, media_type},
    store::{Options, Put, Sparse},
};

const REMOTE: &str = "192.0.2.7:4000";

/// A registry with a store of its own.
struct Home {
    registry: Registry,
    store: Store,
    dir: tempfile::TempDir,
}

/// An answer with its body read.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the specification that it carries.
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json");
        self.json()["errors"][0]["code"].as_str().unwrap().to_string()
    }

    /// The path of the upload that it speaks of.
    fn location(&self) -> String {
        self.header("location").to_string()
    }

    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, &self.code()[..]), (status, code), "{self:?}");
        self
    }
}

/// What a request carries beside method and path.
struct Ask {
    headers: Vec<(&'static str, String)>,
    body: RequestBody,
    peer: Option<SocketAddr>,
}

fn ask() -> Ask {
    Ask { headers: Vec::new(), body: RequestBody::from_bytes(""), peer: None }
}

impl Ask {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body = RequestBody::from_bytes(bytes);
        self
    }

    /// Pieces without a length; `cut` ends them with an error.
    fn stream(mut self, pieces: &[&[u8]], cut: bool) -> Self {
        let mut items: Vec<io::Result<Bytes>> =
            pieces.iter().map(|p| Ok(Bytes::copy_from_slice(p))).collect();
        items.extend(cut.then(|| Err(io::ErrorKind::ConnectionReset.into())));
        self.body = RequestBody { length: None, stream: Box::pin(stream::iter(items)) };
        self
    }

    fn from(mut self, peer: &str) -> Self {
        self.peer = Some(peer.parse().unwrap());
        self
    }
}

fn home(settings: Settings, access: Access) -> Home {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { floor: 0, ..Options::default() }).unwrap();
    let registry = Registry::new(store.clone(), access, settings, Arc::default());
    Home { registry, store, dir }
}

/// Where everybody on the machine may push.
fn open() -> Home {
    home(Settings::default(), Access { trust_loopback: true, ..Access::default() })
}

fn read_body(body: ResponseBody) -> Bytes {
    match body {
        ResponseBody::Empty => Bytes::new(),
        ResponseBody::Bytes(bytes) => bytes,
        ResponseBody::File { file, offset, len } => {
            let mut bytes = vec![0; len as usize];
            file.read_exact_at(&mut bytes, offset).unwrap();
            bytes.into()
        }
        ResponseBody::Stream { .. } => panic!("nothing here arrives"),
    }
}

impl Home {
    async fn send(&self, method: &str, path: &str, ask: Ask) -> Got {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(ask.body).unwrap();
        let address = ask.peer.unwrap_or_else(|| "127.0.0.1:4000".parse().unwrap());
        request.extensions_mut().insert(Peer { address, tls: false });
        let (parts, body) = self.registry.answer(request).await.into_parts();
        assert_eq!(parts.headers["docker-distribution-api-version"], "registry/2.0");
        Got { status: parts.status.as_u16(), headers: parts.headers, body: read_body(body) }
    }

    async fn get(&self, path: &str) -> Got {
        self.send("GET", path, ask()).await
    }

    async fn begin(&self, repository: &str) -> String {
        self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), ask()).await.is(202).location()
    }

    async fn push_blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send("POST", &path, ask().body(content.to_vec())).await.is(201);
        digest
    }

    async fn put(&self, path: &str, manifest: &str) -> Got {
        self.send(
            "PUT",
            path,
            ask().with("content-type", media_type::OCI_MANIFEST).body(manifest.to_string()),
        )
        .await
    }

    /// Pushes an image of one blob by tag.
    async fn push_image(&self, repository: &str, tag: &str, content: &[u8]) -> (Digest, String) {
        self.push_blob(repository, content).await;
        let manifest = image(content, "", "");
        self.put(&format!("/v2/{repository}/manifests/{tag}"), &manifest).await.is(201);
        (Digest::sha256(manifest.as_bytes()), manifest)
    }

    /// Replicated content, as the replicator puts it.
    async fn replicate(&self, host: &str, repository: &str, tag: &str, content: &'static [u8]) -> Digest {
        let repository: Repository = repository.parse().unwrap();
        let mut writer = self.store.begin_upload(&repository, Algorithm::Sha256).await.unwrap();
        writer.append(Bytes::from_static(content)).await.unwrap();
        writer.commit(&Digest::sha256(content)).await.unwrap();
        let text = image(content, "", "");
        let digest = Digest::sha256(text.as_bytes());
        let put = Put { tags: vec![tag.parse().unwrap()], origins: vec![host.into()], ..Put::default() };
        let manifest = Manifest::parse(text, None).unwrap();
        self.store.put_manifest(&repository, &digest, manifest, put).await.unwrap();
        digest
    }

    /// Follows `Link` to the end; the entries of each page.
    async fn pages(&self, first: &str, entries: &str) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut next = Some(first.to_string());
        while let Some(path) = next {
            let got = self.get(&path).await.is(200);
            let name = |v: &serde_json::Value| v["digest"].as_str().or(v.as_str()).unwrap().to_string();
            pages.push(got.json()[entries].as_array().unwrap().iter().map(name).collect());
            next = got
                .header("link")
                .strip_prefix('<')
                .map(|l| l.strip_suffix(">; rel=\"next\"").expect("RFC 8288").to_string());
            assert!(pages.len() < 100, "the pages end");
        }
        pages
    }
}

/// An image whose config and only layer are `content`. `kind` is its artifact type, `subject` JSON of a descriptor.
fn image(content: &[u8], kind: &str, subject: &str) -> String {
    let blob =
        format!(r#"{{"mediaType":"a/b","digest":"{}","size":{}}}"#, Digest::sha256(content), content.len());
    let kind = if kind.is_empty() { String::new() } else { format!(r#","artifactType":"{kind}""#) };
    let subject = if subject.is_empty() { String::new() } else { format!(r#","subject":{subject}"#) };
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{blob},"layers":[{blob}]{kind}{subject}}}"#,
        media_type::OCI_MANIFEST
    )
}

fn subject(digest: &Digest) -> String {
    format!(r#"{{"mediaType":"{}","digest":"{digest}","size":1}}"#, media_type::OCI_MANIFEST)
}

const BLOB: &[u8] = b"0123456789";

#[test]
fn a_blob_comes_in_whole_in_chunks_as_a_stream_or_with_the_end_in_the_put() {
    smol::block_on(async {
        let home = open();
        let digest = Digest::sha256(BLOB);
        let chunk = |range: &str, bytes: &'static [u8]| ask().with("content-range", range).body(bytes);
        for (repository, patches, last) in [
            ("whole", vec![], ask().body(BLOB)),
            ("chunked", vec![chunk("0-3", &BLOB[..4]), chunk("bytes 4-9/10", &BLOB[4..])], ask()),
            ("streamed", vec![ask().stream(&[&BLOB[..1], b"", &BLOB[1..]], false)], ask()),
            (
                "mixed",
                vec![chunk("0-3", &BLOB[..4]), ask().stream(&[&BLOB[4..6]], false)],
                chunk("6-9", &BLOB[6..]),
            ),
            ("streamed-end", vec![], ask().stream(&[&BLOB[..5], &BLOB[5..]], false)),
        ] {
            let mut at = home.begin(repository).await;
            for patch in patches {
                at = home.send("PATCH", &at, patch).await.is(202).location();
            }
            let got = home.send("PUT", &format!("{at}?digest={digest}"), last).await.is(201);
            assert_eq!(got.location(), format!("/v2/{repository}/blobs/{digest}"));
            assert_eq!(got.header("docker-content-digest"), digest.as_str());
            assert_eq!(home.get(&got.location()).await.is(200).body, BLOB, "{repository}");
            home.get(&at).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
        home.push_blob("post", BLOB).await;
        let empty = home.push_blob("post", b"").await;
        assert_eq!(home.get(&format!("/v2/post/blobs/{empty}")).await.is(200).body, "");
        let long = Digest::of(Algorithm::Sha512, BLOB);
        let at = home.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", ask()).await.is(202);
        home.send("PUT", &format!("{}?digest={long}", at.location()), ask().body(BLOB)).await.is(201);
        assert_eq!(home.get(&format!("/v2/a/blobs/{long}")).await.is(200).body, BLOB);
    });
}

#[test]
fn what_came_before_a_cut_is_kept_and_the_status_says_how_much() {
    smol::block_on(async {
        let home = open();
        let digest = Digest::sha256(BLOB);
        let at = home.begin("a").await;
        let fresh = home.get(&at).await.is(204);
        assert_eq!(fresh.header("range"), "0-0");
        home.send("PATCH", &at, ask().stream(&[&BLOB[..3], &BLOB[3..5]], true))
            .await
            .fails(400, "BLOB_UPLOAD_INVALID");
        let status = home.get(&at).await.is(204);
        assert_eq!((status.header("range"), &status.location()[..]), ("0-4", &at[..]));
        assert!(at.ends_with(status.header("docker-upload-uuid")));
        home.send("PUT", &format!("{at}?digest={digest}"), ask().stream(&[&BLOB[5..7]], true))
            .await
            .fails(400, "BLOB_UPLOAD_INVALID");
        assert_eq!(home.get(&at).await.is(204).header("range"), "0-6", "a cut PUT is no end");
        let rest = ask().with("content-range", "7-9").body(&BLOB[7..]);
        home.send("PUT", &format!("{at}?digest={digest}"), rest).await.is(201);
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        home.send("POST", &path, ask().stream(&[BLOB], true)).await.fails(400, "BLOB_UPLOAD_INVALID");
        let left = std::fs::read_dir(home.dir.path().join(".satellite/partial")).unwrap().count();
        assert_eq!(left, 0, "nobody can go on with a cut whole push");
    });
}

#[test]
fn a_chunk_out_of_place_is_416_and_says_where_the_next_goes() {
    smol::block_on(async {
        let home = open();
        let at = home.begin("a").await;
        home.send("PATCH", &at, ask().body(&BLOB[..4])).await.is(202);
        for (method, range) in [("PATCH", "0-3"), ("PATCH", "5-9"), ("PUT", "9-9")] {
            let path =
                if method == "PUT" { format!("{at}?digest={}", Digest::sha256(BLOB)) } else { at.clone() };
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let chunk = ask().with("content-range", range).body(&BLOB[first..=last]);
            let got = home.send(method, &path, chunk).await.fails(416, "BLOB_UPLOAD_INVALID");
            assert_eq!((got.header("range"), &got.location()[..]), ("0-3", &at[..]));
        }
        for (range, body, code) in [
            ("4-9", &BLOB[4..6], "SIZE_INVALID"),
            ("4-5", &BLOB[4..], "SIZE_INVALID"),
            ("9-4", &BLOB[4..], "BLOB_UPLOAD_INVALID"),
            ("x", &BLOB[4..], "BLOB_UPLOAD_INVALID"),
            ("", &BLOB[4..], "BLOB_UPLOAD_INVALID"),
        ] {
            let chunk = ask().with("content-range", range).body(body);
            home.send("PATCH", &at, chunk).await.fails(400, code);
            assert_eq!(home.get(&at).await.header("range"), "0-3", "{range}: nothing of it is taken");
        }
        let chunk = ask().with("content-range", "4-5").stream(&[&BLOB[4..6], &BLOB[6..]], false);
        home.send("PATCH", &at, chunk).await.fails(400, "SIZE_INVALID");
        assert_eq!(home.get(&at).await.header("range"), "0-5", "no more than was announced");
    });
}

#[test]
fn an_upload_with_the_wrong_digest_is_gone_and_so_is_a_cancelled_one() {
    smol::block_on(async {
        let home = open();
        let wrong = Digest::sha256(b"other");
        let at = home.begin("a").await;
        home.send("PUT", &at, ask().body(BLOB)).await.fails(400, "DIGEST_INVALID");
        home.send("PUT", &format!("{at}?digest=sha256:12"), ask().body(BLOB))
            .await
            .fails(400, "DIGEST_INVALID");
        assert_eq!(home.get(&at).await.is(204).header("range"), "0-0", "no digest, nothing taken");
        home.send("PUT", &format!("{at}?digest={wrong}"), ask().body(BLOB))
            .await
            .fails(400, "DIGEST_INVALID");
        home.get(&at).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        home.get(&format!("/v2/a/blobs/{wrong}")).await.fails(404, "BLOB_UNKNOWN");
        let path = format!("/v2/a/blobs/uploads/?digest={wrong}");
        home.send("POST", &path, ask().body(BLOB)).await.fails(400, "DIGEST_INVALID");
        let at = home.begin("a").await;
        home.send("PATCH", &at, ask().body(BLOB)).await.is(202);
        home.send("DELETE", &at, ask()).await.is(204);
        for (method, path) in [
            ("GET", at.clone()),
            ("DELETE", at.clone()),
            ("PATCH", at.clone()),
            ("PUT", format!("{at}?digest={wrong}")),
        ] {
            home.send(method, &path, ask()).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
        home.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", ask())
            .await
            .fails(400, "DIGEST_INVALID");
        assert_eq!(std::fs::read_dir(home.dir.path().join(".satellite/partial")).unwrap().count(), 0);
    });
}

#[test]
fn an_upload_belongs_to_its_repository() {
    smol::block_on(async {
        let home = open();
        let at = home.begin("a").await;
        home.send("PATCH", &at, ask().body(&BLOB[..4])).await.is(202);
        let other = at.replace("/v2/a/", "/v2/b/");
        for method in ["GET", "PATCH", "DELETE"] {
            home.send(method, &other, ask()).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
        }
        home.send("PUT", &format!("{other}?digest={}", Digest::sha256(BLOB)), ask())
            .await
            .fails(404, "BLOB_UPLOAD_UNKNOWN");
        assert_eq!(home.get(&at).await.is(204).header("range"), "0-3");
    });
}

#[test]
fn a_blob_is_mounted_from_where_it_is_and_otherwise_an_upload_begins() {
    smol::block_on(async {
        let home = open();
        let digest = home.push_blob("a", BLOB).await;
        let absent = Digest::sha256(b"absent");
        for (to, query, status) in [
            ("b", format!("mount={digest}&from=a"), 201),
            ("c", format!("mount={digest}"), 201),
            ("d", format!("mount={digest}&from=elsewhere"), 202),
            ("e", format!("mount={absent}&from=a"), 202),
            ("f", format!("mount={absent}"), 202),
        ] {
            let got = home.send("POST", &format!("/v2/{to}/blobs/uploads/?{query}"), ask()).await.is(status);
            let expected = if status == 201 { 200 } else { 404 };
            home.get(&format!("/v2/{to}/blobs/{digest}")).await.is(expected);
            if status == 202 {
                home.get(&got.location()).await.is(204);
            }
        }
        home.send("POST", "/v2/b/blobs/uploads/?mount=x", ask()).await.fails(400, "DIGEST_INVALID");
        let bad = format!("/v2/b/blobs/uploads/?mount={digest}&from=A");
        home.send("POST", &bad, ask()).await.fails(400, "NAME_INVALID");
    });
}

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

fn passwords(dir: &std::path::Path) -> Htpasswd {
    let path = dir.join("htpasswd");
    let hash = bcrypt::hash("right", 4).unwrap();
    std::fs::write(&path, format!("# users\n\nme:{hash}\n")).unwrap();
    Htpasswd::open(&path).unwrap()
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{name}:{password}")))
}

#[test]
fn who_may_pull_and_push_is_what_the_rules_say() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (basic("me", "right"), basic("me", "wrong"));
    let (stranger, podman) = (basic("you", "right"), basic("", ""));
    let loopbacks = ["127.0.0.1:9", "127.9.9.9:9", "[::1]:9", "[::ffff:127.0.0.1]:9"];
    let others = [REMOTE, "[2001:db8::1]:9", "[::ffff:192.0.2.7]:9", "0.0.0.0:9"];
    smol::block_on(async {
        for (users, private, trust) in (0..8).map(|n| (n & 1 > 0, n & 2 > 0, n & 4 > 0)) {
            let access =
                Access { trust_loopback: trust, users: users.then(|| passwords(dir.path())), private };
            let home = home(Settings::default(), access);
            home.replicate("one.test", "a", "v", BLOB).await;
            let local = loopbacks.iter().map(|p| (p, trust));
            for (peer, trusted) in local.chain(others.iter().map(|p| (p, false))) {
                for (credentials, known, refused) in [
                    (None, false, false),
                    (Some(&podman), false, false),
                    (Some(&right), users, false),
                    (Some(&wrong), false, users),
                    (Some(&stranger), false, users),
                ] {
                    let no = if users { 401 } else { 403 };
                    let status = |ok: u16, free: bool| match () {
                        () if refused => 401,
                        () if known || trusted || free => ok,
                        () => no,
                    };
                    let request = || {
                        let ask = ask().from(peer);
                        credentials.into_iter().fold(ask, |ask, c| ask.with("authorization", c))
                    };
                    let case =
                        format!("users {users}, private {private}, trust {trust}, {peer}, {credentials:?}");
                    let pull = home.send("GET", "/v2/a/manifests/v", request()).await;
                    assert_eq!(pull.status, status(200, !private), "pull: {case}");
                    assert_eq!(
                        home.send("GET", "/v2/", request()).await.status,
                        status(200, !private),
                        "{case}"
                    );
                    let push = home.send("POST", "/v2/a/blobs/uploads/", request()).await;
                    assert_eq!(push.status, status(202, false), "push: {case}");
                    let challenged = !push.header("www-authenticate").is_empty();
                    assert_eq!(challenged, push.status == 401, "{case}");
                    assert_eq!(home.send("GET", "/healthz", request()).await.status, 200, "{case}");
                }
            }
        }
    });
}

#[test]
fn a_request_from_nobody_knows_where_is_not_trusted() {
    smol::block_on(async {
        let home = open();
        let request = http::Request::builder().method("POST").uri("/v2/a/blobs/uploads/");
        let response = home.registry.answer(request.body(RequestBody::from_bytes("")).unwrap()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    });
}

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

/// One request to an upload. Offsets are relative to where it is.
#[derive(Clone, Debug)]
enum Step {
    Status,
    /// `true`: cut after the bytes.
    Stream(Vec<u8>, bool),
    Chunk {
        shift: i8,
        bytes: Vec<u8>,
        /// Announced more (or fewer) than there are, in a body without a length.
        lie: i8,
    },
    /// Ends it: with the right digest or another, with this at its end.
    Finish(Vec<u8>, bool),
    FinishCut(Vec<u8>),
    Cancel,
    Begin,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        2 => Just(Step::Status),
        4 => (bytes(), any::<bool>()).prop_map(|(b, cut)| Step::Stream(b, cut)),
        4 => (-2i8..3, proptest::collection::vec(any::<u8>(), 1..40), -2i8..3)
            .prop_map(|(shift, bytes, lie)| Step::Chunk { shift, bytes, lie }),
        2 => (bytes(), any::<bool>()).prop_map(|(b, right)| Step::Finish(b, right)),
        1 => bytes().prop_map(Step::FinishCut),
        1 => Just(Step::Cancel),
        2 => Just(Step::Begin),
    ];
    proptest::collection::vec(step, 1..20)
}

/// Does the steps, with a plain model of what the upload holds: `None` when there is none.
async fn follow(home: &Home, steps: &[Step]) {
    let mut at = home.begin("a").await;
    let mut held: Option<Vec<u8>> = Some(Vec::new());
    for step in steps {
        let offset = held.as_ref().map_or(0, Vec::len);
        let gone = held.is_none();
        let mut take = |bytes: &[u8]| held.iter_mut().for_each(|h| h.extend(bytes));
        match step {
            Step::Status => {}
            Step::Stream(bytes, cut) => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let got = home.send("PATCH", &at, ask().stream(&[first, second], *cut)).await;
                take(bytes);
                assert_eq!(
                    got.status,
                    if gone {
                        404
                    } else if *cut {
                        400
                    } else {
                        202
                    },
                    "{step:?}"
                );
            }
            Step::Chunk { shift, bytes, lie } => {
                let first = offset as i64 + i64::from(*shift);
                let last = first + bytes.len() as i64 - 1 + i64::from(*lie);
                let request = ask().with("content-range", format!("{first}-{last}")).stream(&[bytes], false);
                let got = home.send("PATCH", &at, request).await;
                let expected = match () {
                    () if gone => 404,
                    () if first < 0 || last < first => 400,
                    () if *shift != 0 => 416,
                    () if *lie == 0 => 202,
                    () => 400,
                };
                assert_eq!(got.status, expected, "{step:?} at {offset}");
                // More than was announced is not taken; less is a cut.
                if expected == 202
                    || expected == 400 && first >= 0 && last >= first && *shift == 0 && *lie > 0
                {
                    take(bytes);
                }
            }
            Step::Finish(bytes, right) => {
                take(bytes);
                let whole = held.take().unwrap_or_default();
                let digest = if *right { Digest::sha256(&whole) } else { Digest::sha256(b"another") };
                let got =
                    home.send("PUT", &format!("{at}?digest={digest}"), ask().stream(&[bytes], false)).await;
                assert_eq!(
                    got.status,
                    if gone {
                        404
                    } else if *right {
                        201
                    } else {
                        400
                    },
                    "{step:?}"
                );
                if got.status == 201 {
                    assert_eq!(home.get(&got.location()).await.is(200).body, whole);
                }
            }
            Step::FinishCut(bytes) => {
                let path = format!("{at}?digest={}", Digest::sha256(bytes));
                let got = home.send("PUT", &path, ask().stream(&[bytes], true)).await;
                take(bytes);
                assert_eq!(got.status, if gone { 404 } else { 400 }, "{step:?}");
            }
            Step::Cancel => {
                home.send("DELETE", &at, ask()).await.is(if gone { 404 } else { 204 });
                held = None;
            }
            Step::Begin if gone => {
                at = home.begin("a").await;
                held = Some(Vec::new());
            }
            Step::Begin => {}
        }
        let status = home.get(&at).await;
        match &held {
            None => assert_eq!(status.status, 404, "{step:?}"),
            Some(held) => {
                assert_eq!(status.status, 204, "{step:?}");
                assert_eq!(status.header("range"), format!("0-{}", held.len().saturating_sub(1)), "{step:?}");
            }
        }
    }
}

#[test]
fn an_upload_holds_exactly_what_it_acknowledged_whatever_the_client_does() {
    let home = open();
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&steps(), |steps| {
            smol::block_on(follow(&home, &steps));
            Ok(())
        })
        .unwrap();
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
