#![allow(clippy::unwrap_used, clippy::expect_used)]
//! The registry as one function: a request in, an answer out, no sockets.

mod access;
mod lists;
mod names;
mod pulls;
mod sparse;
mod upload_model;
mod uploads;

use std::{io, net::SocketAddr, os::unix::fs::FileExt};

use bytes::Bytes;
use futures_lite::stream;

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
