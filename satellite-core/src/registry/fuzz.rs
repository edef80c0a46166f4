#![allow(clippy::unwrap_used, clippy::panic)]
//! Paths, ranges, and uploads as clients may send them.

use std::{collections::HashMap, sync::Arc};

use http::header;

use super::{
    Access, Registry, Settings, range,
    range::Wanted,
    route::{self, Route},
};
use crate::{
    net::message::{Peer, Request, RequestBody, Response, ResponseBody},
    oci::{Digest, Repository},
    store::{Options, Store},
};

/// Paths with queries, and ranges of contents of any size.
pub(crate) fn paths(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, rest) = text.split_once('?').map_or((&*text, None), |(p, q)| (p, Some(q)));
    // hyper gives paths that begin with a slash, or `*`.
    if let Ok(target) = route::parse(&format!("/{path}"), rest) {
        let repository = target.repository.map(|r| r.to_string());
        assert!(repository.is_none_or(|r| r.parse::<Repository>().is_ok()));
        if let Route::Blob(digest) | Route::Referrers(digest) = target.route {
            assert!(digest.as_str().parse::<Digest>().is_ok());
        }
    }
    for size in [0, 1, 100, u64::from(u32::MAX), u64::MAX / 2, data.len() as u64] {
        if let Wanted::Part(offset, length) = range::wanted(&text, size) {
            assert!(
                length > 0 && offset.checked_add(length).is_some_and(|end| end <= size),
                "{text:?} of {size}"
            );
        }
    }
    if let Some((first, last)) = range::chunk(&text) {
        assert!(first <= last);
    }
}

/// One upload after another in one repository, by steps that the bytes say, against what the specification says of them.
pub(crate) fn uploads(data: &[u8]) {
    let base =
        if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let dir = base.join(format!("satellite-fuzz-{}-{:x}", std::process::id(), fastrand_like()));
    let store = Store::open(&dir, Options { floor: 0, ..Options::default() }).unwrap();
    let access = Access { trust_loopback: true, ..Access::default() };
    let registry = Registry::new(store.clone(), access, Settings::default(), Arc::default());
    smol::block_on(Steps { registry, sessions: Vec::new(), held: HashMap::new() }.run(data));
    drop(store);
    let _ = std::fs::remove_dir_all(&dir);
}

fn fastrand_like() -> u64 {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

struct Steps {
    registry: Registry,
    /// Path of each open upload.
    sessions: Vec<String>,
    /// What each of them holds.
    held: HashMap<String, Vec<u8>>,
}

impl Steps {
    async fn run(mut self, data: &[u8]) {
        for step in data.chunks(4).take(64) {
            let [what, which, a, b] = [0, 1, 2, 3].map(|n| step.get(n).copied().unwrap_or(0));
            let content: Vec<u8> = (0..usize::from(a) * 7).map(|n| (n as u8).wrapping_mul(b | 1)).collect();
            let session = self.sessions.get(usize::from(which) % self.sessions.len().max(1)).cloned();
            match (what % 7, session) {
                (0, _) => {
                    let answer = self.ask("POST", "/v2/a/blobs/uploads/", &[], Vec::new()).await;
                    assert_eq!(answer.status(), 202);
                    let path = location(&answer);
                    self.held.insert(path.clone(), Vec::new());
                    self.sessions.push(path);
                }
                (1, Some(path)) => {
                    // A chunk that says where it goes: right, or somewhere else.
                    let at = self.held[&path].len() as u64;
                    let first = if b % 3 == 0 { at.saturating_add(u64::from(b)) } else { at };
                    let range = format!("{first}-{}", first + (content.len() as u64).saturating_sub(1));
                    let answer = self.ask("PATCH", &path, &[("content-range", range)], content.clone()).await;
                    let right = first == at && !content.is_empty();
                    assert!(!right || answer.status() == 202, "{answer:?}", answer = answer.status());
                    if answer.status() == 202 {
                        assert!(first == at, "a chunk at {first} was taken at {at}");
                        self.held.get_mut(&path).unwrap().extend(content);
                    }
                }
                (2, Some(path)) => {
                    let answer = self.ask("PATCH", &path, &[], content.clone()).await;
                    assert_eq!(answer.status(), 202);
                    self.held.get_mut(&path).unwrap().extend(content);
                }
                (3, Some(path)) => {
                    let answer = self.ask("GET", &path, &[], Vec::new()).await;
                    assert_eq!(answer.status(), 204);
                    let end = self.held[&path].len().saturating_sub(1);
                    assert_eq!(answer.headers()[header::RANGE].to_str().unwrap(), format!("0-{end}"));
                }
                (4, Some(path)) => {
                    // The end, by the right digest or by a wrong one, with a last piece or without.
                    let piece = if b % 2 == 0 { content } else { Vec::new() };
                    let whole = [&self.held[&path][..], &piece].concat();
                    let right = b % 5 != 0;
                    let digest = Digest::sha256(if right { &whole } else { b"something else" });
                    let query = format!("{path}?digest={digest}");
                    let answer = self.ask("PUT", &query, &[], piece).await;
                    assert_eq!(answer.status().as_u16(), if right { 201 } else { 400 });
                    self.visible(&digest, right.then_some(&whole)).await;
                    self.sessions.retain(|s| *s != path);
                    let answer = self.ask("GET", &path, &[], Vec::new()).await;
                    assert_eq!(answer.status(), 404, "an upload that ended");
                }
                (5, Some(path)) => {
                    assert_eq!(self.ask("DELETE", &path, &[], Vec::new()).await.status(), 204);
                    self.sessions.retain(|s| *s != path);
                    assert_eq!(self.ask("PATCH", &path, &[], content).await.status(), 404);
                }
                _ => {
                    let digest = Digest::sha256(&content);
                    let query = format!("/v2/a/blobs/uploads/?digest={digest}");
                    assert_eq!(self.ask("POST", &query, &[], content.clone()).await.status(), 201);
                    self.visible(&digest, Some(&content)).await;
                }
            }
        }
    }

    async fn visible(&self, digest: &Digest, expected: Option<&Vec<u8>>) {
        let answer = self.ask("GET", &format!("/v2/a/blobs/{digest}"), &[], Vec::new()).await;
        match (expected, answer.body()) {
            (Some(expected), ResponseBody::File { file, offset: 0, len }) => {
                use std::os::unix::fs::FileExt;
                let mut bytes = vec![0; *len as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                assert_eq!(&bytes, expected);
            }
            (None, _) if answer.status() == 404 => {}
            // What was committed by another step has the same name.
            (None, _) => assert_eq!(*digest, Digest::sha256(b"something else")),
            _ => panic!("{} for {digest}", answer.status()),
        }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, String)], body: Vec<u8>) -> Response {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut request: Request = request.body(RequestBody::from_bytes(body)).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        request.extensions_mut().insert(Peer { address, tls: false });
        self.registry.answer(request).await
    }
}

fn location(answer: &Response) -> String {
    answer.headers()[header::LOCATION].to_str().unwrap().to_string()
}
