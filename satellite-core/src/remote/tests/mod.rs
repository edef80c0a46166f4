#![allow(clippy::unwrap_used, clippy::expect_used)]

mod auth;
mod list;
mod pull;
mod push;
mod real;

use std::{future::Future, time::Duration};

use futures_lite::StreamExt;

use super::*;
use crate::{
    net::{
        Executor,
        client::{ClientConfig, script::Script, surf_client},
        message::ByteStream,
    },
    oci::{Digest, Reference, Repository},
};

fn quick() -> Options {
    let retry = RetryPolicy { base: Duration::from_millis(1), ..RetryPolicy::default() };
    Options { retry, login_freeze: Duration::from_millis(1), ..Options::default() }
}

fn password() -> Options {
    let credentials = Credentials::Password { user: "robot$a".into(), password: "hidden".into() };
    Options { credentials, ..quick() }
}

fn registry(server: &Script, options: Options, executor: Executor) -> Registry {
    let config = ClientConfig { native_roots: false, ..ClientConfig::default() };
    Registry::new(&server.host(), options, surf_client(config, executor).unwrap()).unwrap()
}

fn app() -> Repository {
    "edge/app".parse().unwrap()
}

fn tag() -> Reference {
    "v1".parse().unwrap()
}

/// `Basic` of `password()`.
const BASIC: &str = "Basic cm9ib3QkYTpoaWRkZW4=";

async fn all(mut stream: ByteStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

#[test]
fn hosts_become_addresses() {
    let client = || surf_client(ClientConfig::default(), Executor::default()).unwrap();
    let table = [
        ("harbor.example", Scheme::Auto, "https://harbor.example/"),
        ("harbor.example:5000", Scheme::Auto, "https://harbor.example:5000/"),
        ("harbor.example:443", Scheme::Http, "http://harbor.example:443/"),
        ("harbor.example", Scheme::Http, "http://harbor.example/"),
        ("docker.io", Scheme::Auto, "https://registry-1.docker.io/"),
        ("localhost:5000", Scheme::Auto, "http://localhost:5000/"),
        ("127.1.2.3:5000", Scheme::Auto, "http://127.1.2.3:5000/"),
        ("[::1]:5000", Scheme::Auto, "http://[::1]:5000/"),
        ("[::1]:5000", Scheme::Https, "https://[::1]:5000/"),
        ("[fd00::1]", Scheme::Auto, "https://[fd00::1]/"),
        ("localhost.example", Scheme::Auto, "https://localhost.example/"),
    ];
    for (host, scheme, base) in table {
        let registry = Registry::new(host, Options { scheme, ..quick() }, client()).unwrap();
        assert_eq!(registry.base().as_str(), base);
        assert_eq!(registry.host(), host);
    }
    for host in ["", "a/b", "http://a", "u@h", "h:99999", "h?x", "h#x", " h", "[::1", "ä"] {
        assert!(matches!(Registry::new(host, quick(), client()), Err(Error::Host { .. })), "{host}");
    }
}

#[test]
fn a_registry_that_forgot_its_tls_proxy_does_not_lead_us_to_plain_http() {
    let base = Url::parse("https://h.example/").unwrap();
    let table = [
        ("http://h.example/service/token", "https://h.example/service/token"),
        ("http://h.example:8080/t", "http://h.example:8080/t"),
        ("http://other.example/t", "http://other.example/t"),
        ("https://other.example/t", "https://other.example/t"),
    ];
    for (given, kept) in table {
        assert_eq!(keep_tls(&base, Url::parse(given).unwrap()).as_str(), kept);
    }
}

/// Every future of ours must be able to move between threads.
#[test]
fn futures_are_send() {
    fn is_send(_: impl Future + Send) {}
    let client = surf_client(ClientConfig::default(), Executor::default()).unwrap();
    let registry = Registry::new("h.example", quick(), client).unwrap();
    let (app, digest, tag) = (app(), Digest::sha256(b""), tag());
    is_send(registry.check());
    is_send(registry.head_manifest(&app, &tag));
    is_send(registry.get_manifest(&app, &tag, None));
    is_send(registry.put_manifest(&app, &tag, "", bytes::Bytes::new()));
    is_send(registry.open_blob(&app, &digest, 0));
    is_send(registry.head_blob(&app, &digest));
    is_send(registry.mount(&app, &digest, &app));
    is_send(registry.tags(&app));
    is_send(registry.catalog());
    is_send(registry.referrers(&app, &digest, None));
    let source = |_| async { Ok(Box::pin(futures_lite::stream::empty()) as ByteStream) };
    is_send(registry.upload_blob(&app, &digest, 0, source, UploadOptions::default()));
    assert_eq!(format!("{registry:?}"), "Registry(https://h.example/)");
}
