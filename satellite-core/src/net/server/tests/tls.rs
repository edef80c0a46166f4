//! The same over TLS, and certificates that change.

use std::path::Path;

use futures_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::*;

const FIRST: [&str; 2] = [include_str!("certificates/first.crt"), include_str!("certificates/first.key")];
const SECOND: [&str; 2] = [include_str!("certificates/second.crt"), include_str!("certificates/second.key")];

fn write(dir: &Path, pair: [&str; 2]) {
    for (name, text) in ["crt", "key"].into_iter().zip(pair) {
        std::fs::write(dir.join("new"), text).unwrap();
        std::fs::rename(dir.join("new"), dir.join(name)).unwrap();
    }
}

fn serve(dir: &Path, len: usize) -> Running {
    let tls = TlsAcceptor::from_files(dir.join("crt"), dir.join("key")).unwrap().look_always();
    start(len, Limits { drain: Duration::from_secs(1), ..Limits::default() }, Some(tls))
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts exactly one certificate.
fn connect(server: &Running, trusted: &str) -> Client<Tls> {
    connect_with(server, &client(trusted))
}

fn connect_with(server: &Running, config: &Arc<ClientConfig>) -> Client<Tls> {
    let session = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    Client::new(StreamOwned::new(session, server.socket()))
}

fn client(trusted: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn trusts(server: &Running, trusted: &str) -> bool {
    let mut client = connect(server, trusted);
    let tls = client.0.get_mut();
    tls.conn.complete_io(&mut tls.sock).is_ok()
}

#[test]
fn bodies_arrive_byte_for_byte_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), FIRST);
    let server = serve(dir.path(), 3_000_001);
    let mut client = connect(&server, FIRST[0]);
    for path in ["/file/0/3000001", "/bytes/3000001", "/stream", "/chunked"] {
        assert!(client.get(path) == server.data, "{path}");
    }
    assert!(client.get("/file/17/70000") == server.data[17..70_017]);
    assert_eq!(client.request("HEAD", "/file/0/99").headers["content-length"], "99");
    let body = random(1_000_000);
    client.send("PUT /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n");
    client.0.get_mut().write_all(&body).unwrap();
    assert!(client.answer(false).whole(200) == body);
    assert!(client.request("GET", "/file/3000000/80000").cut);
}

#[test]
fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), FIRST);
    let server = serve(dir.path(), 10);
    let mut kept = connect(&server, FIRST[0]);
    kept.get("/bytes/10");
    write(dir.path(), ["no certificate", "no key"]);
    assert!(trusts(&server, FIRST[0]));
    write(dir.path(), [SECOND[0], FIRST[1]]);
    assert!(trusts(&server, FIRST[0]), "a pair that does not match is not taken");
    write(dir.path(), SECOND);
    assert!(trusts(&server, SECOND[0]));
    assert!(!trusts(&server, FIRST[0]));
    assert!(kept.get("/bytes/10") == server.data, "open connections go on");
}

#[test]
fn a_bad_pair_is_refused_at_the_start_and_says_which_file() {
    let dir = tempfile::tempdir().unwrap();
    let paths = || (dir.path().join("crt"), dir.path().join("key"));
    for (pair, word) in [([FIRST[0], SECOND[1]], "crt"), ([FIRST[0], "none"], "key")] {
        write(dir.path(), pair);
        let (certificate, key) = paths();
        let error = TlsAcceptor::from_files(certificate, key).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_handshake_that_never_comes_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), FIRST);
    let tls = TlsAcceptor::from_files(dir.path().join("crt"), dir.path().join("key")).unwrap();
    let limits = Limits { header_time: Duration::from_millis(300), ..Limits::default() };
    let server = start(0, limits, Some(tls));
    server.connect().assert_closed();
}

#[test]
fn who_comes_back_is_spared_the_certificates_unless_it_may_have_to_show_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), FIRST);
    let files = || TlsAcceptor::from_files(dir.path().join("crt"), dir.path().join("key")).unwrap();
    let asking = || files().with_clients(dir.path().join("crt"), true).unwrap();
    for (tls, again) in [(files(), HandshakeKind::Resumed), (asking(), HandshakeKind::Full)] {
        let server = start(10, Limits::default(), Some(tls));
        let config = client(FIRST[0]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut client = connect_with(&server, &config);
            client.get("/bytes/10");
            seen.push(client.0.get_mut().conn.handshake_kind().unwrap());
        }
        assert_eq!(seen, [HandshakeKind::Full, again, again]);
    }
}
