#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use futures_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use surf::http::{Method, Request, Response, Url};

use super::{
    script::{Reply, Script, head, reply, run},
    *,
};

fn plain() -> ClientConfig {
    ClientConfig { native_roots: false, ..ClientConfig::default() }
}

fn request(method: Method, url: &str) -> Request {
    Request::new(method, Url::parse(url).unwrap())
}

async fn send(client: &surf::Client, request: Request) -> Result<Response, surf::Error> {
    client.send(request).await.map(Into::into)
}

async fn get(client: &surf::Client, url: &str) -> Result<String, surf::Error> {
    send(client, request(Method::Get, url)).await?.body_string().await
}

fn cause(error: &surf::Error) -> &ClientError {
    error.downcast_ref().expect("an error of ours")
}

#[test]
fn a_connection_serves_one_request_after_another() {
    run(async |executor| {
        let server = Script::start(|s| reply("200 OK", "Set-Cookie: sid=1\r\n", s.target.as_bytes()));
        let client = surf_client(plain(), executor).unwrap();
        for path in ["/v2/", "/v2/a%3Ab/sha256:00?n=1&x=%2F", "/v2/"] {
            assert_eq!(get(&client, &server.url(path)).await.unwrap(), path);
        }
        let seen = server.seen();
        assert!(seen.iter().all(|s| s.connection == 0), "{seen:?}");
        assert!(seen.iter().all(|s| s.header("cookie").is_none()), "{seen:?}");
        assert_eq!(seen[0].header("host"), Some(server.host().as_str()));
    });
}

#[test]
fn idle_connections_are_bounded_and_an_unread_answer_is_not_reused() {
    run(async |executor| {
        let server = Script::start(|_| reply("200 OK", "", "body"));
        let client = surf_client(ClientConfig { max_idle: 1, ..plain() }, executor).unwrap();
        let one = send(&client, request(Method::Get, &server.url("/1"))).await.unwrap();
        let mut two = send(&client, request(Method::Get, &server.url("/2"))).await.unwrap();
        drop(one);
        assert_eq!(two.body_string().await.unwrap(), "body");
        assert_eq!(get(&client, &server.url("/3")).await.unwrap(), "body");
        let used: Vec<_> = server.seen().iter().map(|s| s.connection).collect();
        assert_eq!(used, [0, 1, 1]);
    });
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    run(async |executor| {
        let server = Script::start(|_| reply("200 OK", "", "x"));
        let config = ClientConfig { idle_timeout: Duration::from_millis(50), ..plain() };
        let client = surf_client(config, executor).unwrap();
        for number in 0..2 {
            get(&client, &server.url("/")).await.unwrap();
            assert_eq!(server.ended.recv().await, Ok(number));
        }
    });
}

#[test]
fn patience_is_for_the_answer_and_not_for_the_sending() {
    run(async |executor| {
        let server = Script::start(|s| match s.target.as_str() {
            "/slow" => Reply::Hang(Vec::new()),
            _ => reply("200 OK", "", "x"),
        });
        let config = ClientConfig { first_byte_timeout: Duration::from_millis(100), ..plain() };
        let client = surf_client(config, executor).unwrap();
        let mut put = request(Method::Put, &server.url("/slow"));
        put.ext_mut().insert(SendStream::new(Box::pin(stream::pending()), Some(1)));
        put.ext_mut().insert(Patience(Duration::from_secs(3600)));
        let error = send(&client, put).await.unwrap_err();
        assert!(matches!(cause(&error), ClientError::Timeout { after, .. } if after.as_millis() == 100));
        let mut late = request(Method::Get, &server.url("/slow"));
        late.ext_mut().insert(Patience(Duration::from_millis(150)));
        let error = send(&client, late).await.unwrap_err();
        assert!(matches!(cause(&error), ClientError::Timeout { after, .. } if after.as_millis() == 150));
    });
}

#[test]
fn a_reused_connection_that_died_is_replaced_unseen() {
    for replies in [0, 1] {
        run(async |executor| {
            // Says keep-alive and closes: at once, or when the next request is already on its way.
            let server = Script::start(move |s| {
                let Reply::Send(bytes) = reply("200 OK", "", "x") else { unreachable!() };
                match (s.connection, s.target.as_str()) {
                    (0, "/1") if replies == 0 => Reply::Cut(bytes),
                    (0, "/2") => Reply::Cut(Vec::new()),
                    _ => Reply::Send(bytes),
                }
            });
            let client = surf_client(plain(), executor).unwrap();
            assert_eq!(get(&client, &server.url("/1")).await.unwrap(), "x");
            assert_eq!(get(&client, &server.url("/2")).await.unwrap(), "x");
            assert_eq!(server.seen().last().unwrap().connection, 1);
        });
    }
}

#[test]
fn a_request_with_a_body_is_not_sent_twice() {
    run(async |executor| {
        let server = Script::start(|s| match s.method.as_str() {
            "GET" => reply("200 OK", "", "x"),
            _ => Reply::Cut(Vec::new()),
        });
        let client = surf_client(plain(), executor).unwrap();
        get(&client, &server.url("/")).await.unwrap();
        let mut put = request(Method::Put, &server.url("/put"));
        put.set_body("once");
        let error = send(&client, put).await.unwrap_err();
        assert!(matches!(cause(&error), ClientError::Http { .. }), "{error:?}");
        assert!(cause(&error).is_transient());
        assert_eq!(server.lines(), ["GET /", "PUT /put"]);
    });
}

#[test]
fn streams_go_both_ways() {
    run(async |executor| {
        let server = Script::start(|s| reply("200 OK", "", &s.body));
        let client = surf_client(plain(), executor).unwrap();
        for length in [Some(300_000), None] {
            let piece = Bytes::from(vec![7; 100_000]);
            let pieces: Vec<std::io::Result<Bytes>> = (0..3).map(|_| Ok(piece.clone())).collect();
            let mut put = request(Method::Put, &server.url("/put"));
            put.ext_mut().insert(SendStream::new(Box::pin(stream::iter(pieces)), length));
            put.ext_mut().insert(ReceiveStream);
            let mut answer = send(&client, put).await.unwrap();
            let mut body = take_stream(&mut answer).unwrap();
            assert!(take_stream(&mut answer).is_none());
            let mut total = 0;
            while let Some(bytes) = body.next().await {
                total += bytes.unwrap().len();
            }
            assert_eq!(total, 300_000);
        }
        let seen = server.seen();
        assert_eq!(seen[0].header("content-length"), Some("300000"));
        assert_eq!(seen[1].header("transfer-encoding"), Some("chunked"));
        assert!(seen.iter().all(|s| s.connection == 0));
    });
}

#[test]
fn a_body_of_another_length_than_said_fails() {
    for length in [2, 5] {
        run(async |executor| {
            let server = Script::start(|_| reply("200 OK", "", ""));
            let client = surf_client(plain(), executor).unwrap();
            let mut put = request(Method::Put, &server.url("/"));
            let body = stream::iter([Ok(Bytes::from_static(b"ab")), Ok(Bytes::from_static(b"c"))]);
            put.ext_mut().insert(SendStream::new(Box::pin(body), Some(length)));
            let result = send(&client, put).await;
            // Too long: what was said arrives, and nothing behind it.
            match result {
                Ok(_) => assert_eq!((length, server.seen()[0].body.as_slice()), (2, &b"ab"[..])),
                Err(error) => assert!(!cause(&error).is_transient(), "{error:?}"),
            }
        });
    }
}

#[test]
fn a_cut_body_is_an_error_and_a_silent_server_a_timeout() {
    run(async |executor| {
        let server = Script::start(|s| match s.target.as_str() {
            "/cut" => Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()),
            "/long" => Reply::Hang([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 100_000]].concat()),
            _ => Reply::Hang(Vec::new()),
        });
        let limit = Duration::from_millis(200);
        let config = ClientConfig { first_byte_timeout: limit, ..plain() };
        let client = surf_client(config, executor).unwrap();
        assert!(get(&client, &server.url("/cut")).await.is_err());
        let error = get(&client, &server.url("/hang")).await.unwrap_err();
        assert!(matches!(cause(&error), ClientError::Timeout { phase: Phase::FirstByte, .. }), "{error}");
        assert!(cause(&error).is_transient());
        let error = get(&client, &server.url("/long")).await.unwrap_err();
        assert!(matches!(cause(&error), ClientError::Http { .. }), "{error}");
        assert!(!cause(&error).is_transient());
    });
}

#[test]
fn nobody_listening_is_named() {
    run(async |executor| {
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let client = surf_client(plain(), executor).unwrap();
        let error = get(&client, &format!("http://127.0.0.1:{port}/?secret=1")).await.unwrap_err();
        assert!(matches!(cause(&error), ClientError::Connect { .. }));
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}")) && !text.contains("secret"), "{text}");
    });
}

struct Authority {
    _folder: tempfile::TempDir,
    ca: PathBuf,
    identity: ClientIdentity,
    server: Arc<ServerConfig>,
    /// Wants a certificate of this authority from its clients.
    strict: Arc<ServerConfig>,
}

/// A private authority's certificate for `name`.
fn authority(name: &str) -> Authority {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(Vec::new()).unwrap();
    if name.contains("://") {
        leaf.subject_alt_names.push(rcgen::SanType::URI(name.try_into().unwrap()));
    } else {
        leaf = rcgen::CertificateParams::new([name.to_string()]).unwrap();
    }
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let ca = write("ca.pem", issuer.pem());
    let identity = ClientIdentity {
        certificate: write("leaf.pem", leaf.pem()),
        key: write("key.pem", key.serialize_pem()),
    };
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let server = |verifier: Arc<dyn ClientCertVerifier>| {
        let key = futures_rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone()], key.into());
        Arc::new(config.unwrap())
    };
    let (strict, server) = (server(verifier), server(Arc::new(NoClientAuth)));
    Authority { _folder: folder, ca, identity, server, strict }
}

#[test]
fn a_client_shows_its_certificate_where_one_is_wanted() {
    run(async |executor| {
        let authority = authority("127.0.0.1");
        let server = Script::start_tls(authority.strict, |_| reply("200 OK", "", "welcome"));
        let url = format!("https://127.0.0.1:{}/", server.port);
        let nameless = ClientConfig { extra_roots: vec![authority.ca], ..plain() };
        let known = ClientConfig { identity: Some(authority.identity.clone()), ..nameless.clone() };
        assert_eq!(get(&surf_client(known, executor.clone()).unwrap(), &url).await.unwrap(), "welcome");
        assert!(get(&surf_client(nameless, executor.clone()).unwrap(), &url).await.is_err());
        let swapped = ClientIdentity { key: authority.identity.certificate.clone(), ..authority.identity };
        let error = surf_client(ClientConfig { identity: Some(swapped), ..plain() }, executor).unwrap_err();
        assert!(error.to_string().starts_with("client key"), "{error}");
    });
}

#[test]
fn a_server_may_be_known_by_its_uri_alone_and_then_it_must_be_that_one() {
    run(async |executor| {
        let ours = "spiffe://edge.example/ground-control";
        let authority = authority(ours);
        let server = Script::start_tls(authority.server, |_| reply("200 OK", "", "welcome"));
        let url = format!("https://127.0.0.1:{}/", server.port);
        let trusting = ClientConfig { extra_roots: vec![authority.ca], ..plain() };
        let by = |uri: &str| ClientConfig { server_uri: Some(uri.into()), ..trusting.clone() };
        assert_eq!(get(&surf_client(by(ours), executor.clone()).unwrap(), &url).await.unwrap(), "welcome");
        // Another one of the same authority, one of no authority, and one by its host's name.
        let stranger = by("spiffe://edge.example/shop-17");
        let error = get(&surf_client(stranger, executor.clone()).unwrap(), &url).await.unwrap_err();
        assert!(cause(&error).to_string().contains("not of spiffe://edge.example/shop-17"), "{error:?}");
        let unknown = ClientConfig { extra_roots: Vec::new(), ..by(ours) };
        assert!(get(&surf_client(unknown, executor.clone()).unwrap(), &url).await.is_err());
        assert!(get(&surf_client(trusting, executor).unwrap(), &url).await.is_err());
    });
}

#[test]
fn certificates_are_judged_by_the_clock_that_is_given() {
    run(async |executor| {
        let authority = authority("127.0.0.1");
        let server = Script::start_tls(authority.server, |_| reply("200 OK", "", "welcome"));
        let url = format!("https://127.0.0.1:{}/", server.port);
        let at = |time: std::time::SystemTime| ClientConfig {
            extra_roots: vec![authority.ca.clone()],
            clock: Some(CertificateClock::new(move || time)),
            ..plain()
        };
        let now = std::time::SystemTime::now();
        assert_eq!(get(&surf_client(at(now), executor.clone()).unwrap(), &url).await.unwrap(), "welcome");
        // rcgen's are valid from 1975 to 4096.
        let error = get(&surf_client(at(std::time::UNIX_EPOCH), executor).unwrap(), &url).await.unwrap_err();
        assert!(cause(&error).to_string().contains("not valid yet"), "{error:?}");
    });
}

#[test]
fn a_private_authority_is_trusted_only_when_named() {
    run(async |executor| {
        let authority = authority("127.0.0.1");
        let big = vec![b'z'; 500_000];
        let server = Script::start_tls(authority.server, move |_| reply("200 OK", "", &big));
        let url = format!("https://127.0.0.1:{}/", server.port);
        let trusting = ClientConfig { extra_roots: vec![authority.ca], ..plain() };
        let client = surf_client(trusting, executor.clone()).unwrap();
        for _ in 0..2 {
            assert_eq!(get(&client, &url).await.unwrap().len(), 500_000);
        }
        assert!(server.seen().iter().all(|s| s.connection == 0));

        let error = get(&surf_client(plain(), executor).unwrap(), &url).await.unwrap_err();
        assert!(matches!(cause(&error), ClientError::Tls { .. }), "{error:?}");
        assert!(!cause(&error).is_transient());
    });
}

#[test]
fn a_file_that_is_no_certificate_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, "nonsense").unwrap();
    for path in [path, folder.path().join("absent")] {
        let config = ClientConfig { extra_roots: vec![path.clone()], ..plain() };
        let error = surf_client(config, Arc::new(smol::Executor::new())).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_proxy_is_asked_in_absolute_form() {
    run(async |executor| {
        let proxy = Script::start(|_| reply("200 OK", "", "via"));
        let http = Proxy::parse(&format!("http://u:p@{}", proxy.host()));
        let config = ClientConfig { proxy: ProxySettings { http, ..Default::default() }, ..plain() };
        let client = surf_client(config, executor).unwrap();
        assert_eq!(get(&client, "http://registry.test/v2/?a=b").await.unwrap(), "via");
        assert_eq!(get(&client, "http://other.test:81/").await.unwrap(), "via");
        let seen = proxy.seen();
        assert_eq!(seen[0].target, "http://registry.test/v2/?a=b");
        assert_eq!(seen[0].header("host"), Some("registry.test"));
        assert_eq!(seen[0].header("proxy-authorization"), Some("Basic dTpw"));
        assert_eq!((seen[1].target.as_str(), seen[1].connection), ("http://other.test:81/", 0));
    });
}

#[test]
fn https_goes_through_the_proxys_tunnel() {
    run(async |executor| {
        let authority = authority("registry.test");
        let server = authority.server.clone();
        let proxy = Script::start(move |s| match (s.method.as_str(), s.target.as_str()) {
            ("CONNECT", "registry.test:443") => {
                Reply::Tls(b"HTTP/1.1 200 Fine\r\n\r\n".to_vec(), server.clone())
            }
            ("CONNECT", _) => head("407 Proxy Authentication Required", ""),
            _ => reply("200 OK", "", "through"),
        });
        let https = Proxy::parse(&format!("http://u:p@{}", proxy.host()));
        let config = ClientConfig {
            proxy: ProxySettings { https, ..Default::default() },
            extra_roots: vec![authority.ca.clone()],
            ..plain()
        };
        let client = surf_client(config, executor).unwrap();
        assert_eq!(get(&client, "https://registry.test/v2/").await.unwrap(), "through");
        let seen = proxy.seen();
        assert_eq!(seen[0].header("proxy-authorization"), Some("Basic dTpw"));
        assert_eq!(seen[1].target, "/v2/");
        assert_eq!(seen[1].header("proxy-authorization"), None);

        let error = get(&client, "https://denied.test/").await.unwrap_err();
        assert!(error.to_string().contains("407"), "{error}");
        assert!(!cause(&error).is_transient());
    });
}
