//! Pushes, over sockets.

use std::io;

use bytes::Bytes;
use futures_lite::stream;

use super::*;
use crate::net::client::script::{Reply, Seen, head, reply, run};

const BLOB: &[u8] = b"0123456789";

fn digest() -> Digest {
    Digest::sha256(BLOB)
}

fn source(offset: u64) -> impl Future<Output = io::Result<ByteStream>> + Send {
    let pieces: Vec<_> = BLOB[offset as usize..].chunks(3).map(|p| Ok(Bytes::from_static(p))).collect();
    async { Ok(Box::pin(stream::iter(pieces)) as ByteStream) }
}

fn chunks(size: u64) -> UploadOptions {
    UploadOptions { chunk_size: Some(size), session: None }
}

async fn push(server: &Script, executor: Executor, options: UploadOptions) -> Result<()> {
    registry(server, quick(), executor).upload_blob(&app(), &digest(), 10, source, options).await
}

/// A registry that takes chunks. The state is in the address, as Harbor's.
#[derive(Default)]
struct Taker {
    got: Vec<u8>,
    /// Cuts the connection after this many PATCHes were taken.
    cut_after: Option<usize>,
    /// Forgets a session that was cut.
    forgets: bool,
    patches: usize,
}

impl Taker {
    fn answer(&mut self, s: &Seen) -> Reply {
        let place = |got: &Vec<u8>| {
            let last = got.len().saturating_sub(1);
            format!(
                "Location: /v2/edge/app/blobs/uploads/u1?_state=a%2Fb{}\r\nRange: 0-{last}\r\n",
                got.len()
            )
        };
        let known = s.target.contains(&format!("_state=a%2Fb{}", self.got.len()));
        match s.method.as_str() {
            "HEAD" => head("404 Not Found", ""),
            "POST" => {
                self.got.clear();
                reply("202 Accepted", &place(&self.got), "")
            }
            "GET" if self.forgets => reply("404 Not Found", "", ""),
            "GET" => reply("204 No Content", &place(&self.got), ""),
            _ if !known => reply("404 Not Found", "", r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}"#),
            "PATCH" => {
                self.patches += 1;
                self.got.extend_from_slice(&s.body);
                if self.cut_after == Some(self.patches) {
                    if self.forgets {
                        self.got = b"lost for ever".to_vec();
                    }
                    return Reply::Cut(Vec::new());
                }
                reply("202 Accepted", &place(&self.got), "")
            }
            _ => {
                self.got.extend_from_slice(&s.body);
                let right = self.got == BLOB && s.target.ends_with(&format!("&digest={}", digest()));
                if right {
                    reply("201 Created", "", "")
                } else {
                    reply("400 Bad", "", r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#)
                }
            }
        }
    }

    fn start(mut self) -> Script {
        Script::start(move |s| self.answer(s))
    }
}

#[test]
fn a_blob_goes_in_one_request_to_the_address_given() {
    run(async |executor| {
        let server = Taker::default().start();
        push(&server, executor, UploadOptions::default()).await.unwrap();
        let target = format!("PUT /v2/edge/app/blobs/uploads/u1?_state=a%2Fb0&digest={}", digest());
        assert_eq!(server.lines(), ["POST /v2/edge/app/blobs/uploads/", target.as_str()]);
        assert_eq!(server.seen()[0].header("content-length"), Some("0"));
        assert_eq!(server.seen()[1].header("content-length"), Some("10"));
        assert_eq!(server.seen()[1].body, BLOB);
    });
}

#[test]
fn a_blob_goes_in_chunks_and_goes_on_after_a_cut() {
    for (cut_after, methods) in
        [(None, "POST PATCH PATCH PATCH PUT"), (Some(2), "POST PATCH PATCH GET PATCH PUT")]
    {
        run(async |executor| {
            let server = Taker { cut_after, ..Taker::default() }.start();
            push(&server, executor, chunks(4)).await.unwrap();
            let seen = server.seen();
            let sent: Vec<_> = seen.iter().map(|s| s.method.as_str()).collect();
            assert_eq!(sent.join(" "), methods);
            let ranges: Vec<_> = seen.iter().filter_map(|s| s.header("content-range")).collect();
            assert_eq!(ranges, ["0-3", "4-7", "8-9"]);
        });
    }
}

#[test]
fn a_push_that_the_registry_forgot_starts_anew() {
    run(async |executor| {
        let server = Taker { cut_after: Some(2), forgets: true, ..Taker::default() }.start();
        push(&server, executor, chunks(4)).await.unwrap();
        let posts = server.lines().iter().filter(|l| l.starts_with("POST")).count();
        assert_eq!(posts, 2);
    });
}

#[test]
fn a_push_whose_answer_was_lost_is_not_repeated() {
    run(async |executor| {
        let server = Script::start(|s| match s.method.as_str() {
            "POST" => {
                reply("202 Accepted", &format!("Location: http://{}/up\r\n", s.header("host").unwrap()), "")
            }
            "PUT" => Reply::Cut(Vec::new()),
            _ => head("200 OK", "Content-Length: 10\r\n"),
        });
        push(&server, executor, UploadOptions::default()).await.unwrap();
        let put = format!("PUT /up?digest={}", digest());
        let head = format!("HEAD /v2/edge/app/blobs/{}", digest());
        assert_eq!(server.lines(), ["POST /v2/edge/app/blobs/uploads/", put.as_str(), head.as_str()]);
    });
}

#[test]
fn a_source_that_fails_and_a_refusal_are_told_apart() {
    run(async |executor| {
        let server = Taker::default().start();
        let registry = registry(&server, quick(), executor);
        let broken = |_| async {
            let pieces = [Ok(Bytes::from_static(b"012")), Err(io::Error::other("disk on fire"))];
            Ok(Box::pin(stream::iter(pieces)) as ByteStream)
        };
        let error =
            registry.upload_blob(&app(), &digest(), 10, broken, UploadOptions::default()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Source { .. }) && error.to_string().contains("disk on fire"),
            "{error}"
        );
        assert!(!error.is_retryable());
        let other = Digest::sha256(b"other");
        let error =
            registry.upload_blob(&app(), &other, 10, source, UploadOptions::default()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Status { status: 400, code: Some(c), .. } if c == "DIGEST_INVALID"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("_state"));
    });
}

#[test]
fn a_blob_is_mounted_or_a_push_begun() {
    run(async |executor| {
        let server = Script::start(|s| match s.target.as_str() {
            t if t.contains("from=public/base") => reply("201 Created", "", ""),
            t if t.contains("from=absent/base") => reply("202 Accepted", "Location: /up?a=b\r\n", ""),
            t if t.contains("from=") => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", ""),
            t if t.starts_with("/up") => reply("201 Created", "", ""),
            _ => reply("202 Accepted", "Location: /up?own\r\n", ""),
        });
        let options = Options { login_freeze: Duration::from_secs(3600), ..password() };
        let registry = registry(&server, options, executor);
        let mount =
            async |from: &str| registry.mount(&app(), &digest(), &from.parse().unwrap()).await.unwrap();
        assert!(matches!(mount("public/base").await, Mounted::Done));
        assert!(matches!(mount("private/base").await, Mounted::Session(_)));
        let Mounted::Session(session) = mount("absent/base").await else { panic!() };
        let options = UploadOptions { session: Some(session), ..UploadOptions::default() };
        registry.upload_blob(&app(), &digest(), 10, source, options).await.unwrap();
        assert_eq!(server.lines().last().unwrap(), &format!("PUT /up?a=b&digest={}", digest()));
        assert_eq!(
            server.lines()[0],
            format!("POST /v2/edge/app/blobs/uploads/?mount={}&from=public/base", digest())
        );
    });
}

#[test]
fn a_manifest_is_pushed_as_it_is() {
    run(async |executor| {
        let wrong = Digest::sha256(b"wrong");
        let server = Script::start(move |s| match s.target.rsplit('/').next() {
            Some("v1") => reply("201 Created", &format!("OCI-Subject: {}\r\n", Digest::sha256(b"s")), ""),
            Some("wrong") => reply("201 Created", &format!("Docker-Content-Digest: {wrong}\r\n"), ""),
            Some("quota") => reply("403 Forbidden", "", r#"{"errors":[{"code":"DENIED","message":"full"}]}"#),
            _ => reply("202 Accepted", "", ""),
        });
        let registry = registry(&server, quick(), executor);
        let put = async |reference: &str| {
            let reference = reference.parse().unwrap();
            registry.put_manifest(&app(), &reference, "a/b", Bytes::from_static(b"{}")).await
        };
        let pushed = put("v1").await.unwrap();
        assert_eq!(pushed, Pushed { digest: Digest::sha256(b"{}"), subject: Some(Digest::sha256(b"s")) });
        assert_eq!(server.seen()[0].header("content-type"), Some("a/b"));
        assert_eq!(server.seen()[0].body, b"{}");
        assert!(matches!(put("wrong").await, Err(Error::Digest { .. })));
        assert!(matches!(put("quota").await, Err(Error::Status { code: Some(c), .. }) if c == "DENIED"));
    });
}

#[test]
fn what_is_gone_already_need_not_be_deleted() {
    run(async |executor| {
        let server = Script::start(|s| match s.target.as_str() {
            t if t.ends_with("/v1") => reply("400 Bad Request", "", r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
            t if t.contains("/blobs/") => reply("404 Not Found", "", ""),
            _ => reply("202 Accepted", "", ""),
        });
        let registry = registry(&server, quick(), executor);
        assert!(registry.delete_manifest(&app(), &digest()).await.unwrap());
        assert!(!registry.delete_blob(&app(), &digest()).await.unwrap());
        let error = registry.delete_tag(&app(), &"v1".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.status(), Some(400));
    });
}
