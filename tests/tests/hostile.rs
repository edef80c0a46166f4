//! Peers that mean harm, or might as well: whatever they send, and however slowly, it ends in bounded time and memory,
//! with an error that names what it was about, and others are served meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use satellite_tests::{
    dir::Dir,
    http::Request,
    image::Image,
    oci,
    process::Finished,
    satellite::{Server, Store},
};

/// Resident memory at most, in KiB, of a build for debugging.
const MEMORY: u64 = 40 << 10;
/// No attack takes longer than this to be over: retries with pauses are in it.
const BOUND: Duration = Duration::from_secs(60);

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An upstream that answers each request as `answer` says, given its path and the connection.
struct Hostile {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

fn hostile(answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Hostile {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, asked) = (Arc::new(answer), Arc::<AtomicUsize>::default());
    let count = asked.clone();
    // Ends with the test's process; each connection ends when the client goes away.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, count) = (answer.clone(), count.clone());
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(BOUND));
                let _ = stream.set_write_timeout(Some(BOUND));
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    let path = line.split(' ').nth(1).unwrap_or("").to_string();
                    while line != "\r\n" {
                        line.clear();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    if answer(&path, &mut stream).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Hostile { address, asked }
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len())?;
    stream.write_all(body)
}

fn manifest(stream: &mut TcpStream, kind: &str, body: &str) -> std::io::Result<()> {
    reply(stream, "200 OK", &format!("content-type: {kind}\r\n"), body.as_bytes())
}

/// A manifest of one layer of `size` that nobody has.
fn image(size: u64) -> String {
    let digest = oci::sha256(b"nothing has this");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"a/b","digest":"{digest}","size":{size}}},"layers":[]}}"#
    )
}

/// A server whose own image must stay servable, and which does the pull.
struct Victim {
    server: Server,
    store: Store,
    _dir: Dir,
}

fn victim() -> Victim {
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let server = store.serve();
    Victim { server, store, _dir: dir }
}

impl Victim {
    /// Pulls from the hostile one; it must fail, in time, within memory, with the others served.
    #[track_caller]
    fn pull(&self, from: &Hostile, words: &[&str]) -> Finished {
        let begun = Instant::now();
        let said =
            self.store.run("pull", ["--stall-timeout", "2s", &format!("{}/team/app:v1", from.address)]);
        assert_ne!(said.code, Some(0), "{said}");
        assert!(begun.elapsed() < BOUND, "{said}");
        self.well();
        said.decent().complains(words)
    }

    /// It answers, and has not grown.
    #[track_caller]
    fn well(&self) {
        let peak = self.server.memory().1;
        assert!(peak < MEMORY, "{peak} KiB at its peak");
        self.server.client().get("/v2/").expect(200);
    }
}

#[test]
fn an_upstream_that_trickles_is_as_good_as_one_that_stalls_only_if_it_stops() {
    // A byte a second is progress, and a slow link a good link: it is not cut for being slow. It stops after three.
    let from = hostile(|path, stream| {
        if path.contains("/manifests/") {
            return manifest(stream, MANIFEST, &image(1000));
        }
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")?;
        for _ in 0..3 {
            stream.write_all(b"x")?;
            thread::sleep(Duration::from_millis(300));
        }
        thread::sleep(BOUND);
        Ok(())
    });
    let victim = victim();
    let mut pull =
        victim.store.command("pull", ["--stall-timeout", "1s", &format!("{}/team/app:v1", from.address)]);
    let mut pull =
        pull.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_secs(6));
    assert!(from.asked.load(Ordering::Relaxed) >= 3, "it never asked again");
    victim.well();
    pull.kill().unwrap();
    pull.wait().unwrap();
}

#[test]
fn compressed_answers_that_nobody_asked_for_are_refused_unopened() {
    // A small bomb: 1,000 times its size, were it opened.
    let from = hostile(|path, stream| {
        let bomb = vec![0x1f; 100_000];
        let kind = if path.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
        reply(stream, "200 OK", &format!("content-type: {kind}\r\ncontent-encoding: gzip\r\n"), &bomb)
    });
    victim().pull(&from, &["team/app", "gzip", "not asked for"]);
    let from = hostile(|path, stream| {
        if path.contains("/manifests/") {
            return manifest(stream, MANIFEST, &image(100));
        }
        reply(stream, "200 OK", "content-encoding: gzip\r\n", &[0x1f; 100])
    });
    victim().pull(&from, &["gzip"]);
}

#[test]
fn floods_before_the_answer_are_not_read_to_their_end() {
    let interim = hostile(|_, stream| {
        loop {
            stream.write_all(&b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(100))?;
        }
    });
    victim().pull(&interim, &["team/app"]);
    let headers = hostile(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream
                .write_all(&b"x-flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(100))?;
        }
    });
    victim().pull(&headers, &["team/app"]);
    let line = hostile(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-long: ")?;
        loop {
            stream.write_all(&[b'a'; 4096])?;
        }
    });
    victim().pull(&line, &["team/app"]);
}

#[test]
fn endless_bodies_are_cut_where_their_kind_ends() {
    for part in ["manifest", "token", "refusal"] {
        let from = hostile(move |path, stream| {
            let address = stream.local_addr()?;
            if part == "token" && !path.contains("/token") {
                let challenge =
                    format!("www-authenticate: Bearer realm=\"http://{address}/token\",service=\"s\"\r\n");
                return reply(stream, "401 Unauthorized", &challenge, b"{}");
            }
            let status = if part == "refusal" { "403 Forbidden" } else { "200 OK" };
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-type: {MANIFEST}\r\ntransfer-encoding: chunked\r\n\r\n"
            )?;
            let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
            loop {
                stream.write_all(chunk.as_bytes())?;
            }
        });
        victim().pull(&from, &[&from.address.to_string()]);
    }
}

#[test]
fn a_token_service_that_never_answers_or_never_satisfies_is_given_up() {
    let silent = hostile(|path, stream| {
        let address = stream.local_addr()?;
        if path.contains("/token") {
            thread::sleep(BOUND);
        }
        let challenge =
            format!("www-authenticate: Bearer realm=\"http://{address}/token\",service=\"s\"\r\n");
        reply(stream, "401 Unauthorized", &challenge, b"{}")
    });
    victim().pull(&silent, &["token"]);
    let never = hostile(|path, stream| {
        let address = stream.local_addr()?;
        if path.contains("/token") {
            return reply(stream, "200 OK", "", br#"{"token":"t","expires_in":1}"#);
        }
        let challenge =
            format!("www-authenticate: Bearer realm=\"http://{address}/token\",service=\"s\"\r\n");
        reply(stream, "401 Unauthorized", &challenge, b"{}")
    });
    victim().pull(&never, &["not authorised"]);
    let asked = never.asked.load(Ordering::Relaxed);
    assert!(asked < 20, "{asked} requests");
}

#[test]
fn an_index_of_a_hundred_thousand_entries_and_one_in_itself_end_in_an_error() {
    let wide = {
        let mut entries = String::new();
        for n in 0..20_000 {
            let digest = oci::sha256(format!("child {n}").as_bytes());
            let comma = if n == 0 { "" } else { "," };
            write!(entries, r#"{comma}{{"mediaType":"{MANIFEST}","digest":"{digest}","size":7}}"#).unwrap();
        }
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#)
    };
    assert!(wide.len() < 4 << 20);
    let from = hostile(move |path, stream| match path.contains("/manifests/v1") {
        true => manifest(stream, INDEX, &wide),
        false => reply(stream, "404 Not Found", "", b"{}"),
    });
    victim().pull(&from, &["team/app"]);
    // Each index lists another, for ever; digests are right, for each is made when its parent is.
    let mut deep = vec![(oci::sha256(image(7).as_bytes()), image(7))];
    for _ in 0..40 {
        let (digest, body) = deep.last().unwrap();
        let kind = if deep.len() == 1 { MANIFEST } else { INDEX };
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{kind}","digest":"{digest}","size":{}}}]}}"#,
            body.len()
        );
        deep.push((oci::sha256(text.as_bytes()), text));
    }
    let from = hostile(move |path, stream| {
        let found = if path.ends_with("/v1") {
            deep.last()
        } else {
            deep.iter().find(|(d, _)| path.ends_with(d.as_str()))
        };
        match found {
            Some((_, body)) => {
                manifest(stream, if body.contains("manifests") { INDEX } else { MANIFEST }, body)
            }
            None => reply(stream, "404 Not Found", "", b"{}"),
        }
    });
    victim().pull(&from, &["team/app"]);
}

#[test]
fn referrers_without_end_are_given_up() {
    let text = image(2);
    let from = hostile(move |path, stream| {
        if path.contains("/manifests/v1") {
            return manifest(stream, MANIFEST, &text);
        }
        if path.contains("/referrers/") {
            // The next page is this page.
            let body = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
            let link = format!("content-type: {INDEX}\r\nlink: <{path}>; rel=\"next\"\r\n");
            return reply(stream, "200 OK", &link, body.as_bytes());
        }
        reply(stream, "404 Not Found", "", b"{}")
    });
    victim().pull(&from, &["team/app"]);
    let asked = from.asked.load(Ordering::Relaxed);
    assert!(asked < 2000, "{asked} requests");
}

#[test]
fn a_part_that_is_not_the_one_asked_for_is_not_taken() {
    let from = hostile(|path, stream| {
        if path.contains("/manifests/") {
            return manifest(stream, MANIFEST, &image(1000));
        }
        // 206 to a request for the whole, of somewhere else.
        reply(stream, "206 Partial Content", "content-range: bytes 500-599/1000\r\n", &[7; 100])
    });
    victim().pull(&from, &["team/app"]);
}

#[test]
fn clients_that_stall_by_the_hundred_keep_nobody_out_for_long() {
    let victim = victim();
    Image::new().noise(1000, 1).build().push(&victim.server.client(), "team/app", "v1");
    let address = victim.server.address();
    let mut held = Vec::new();
    for n in 0..2000 {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let begun: &[u8] = match n % 4 {
            0 => b"",
            1 => b"GET /v2/ HTT",
            2 => b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nx",
            _ => b"PATCH /v2/a/blobs/uploads/u-1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        };
        let _ = stream.write_all(begun);
        held.push(stream);
    }
    let peak = victim.server.memory().1;
    assert!(peak < MEMORY, "{peak} KiB with {} connections", held.len());
    // Those over the bound are told so at once.
    let refused = held.iter_mut().rev().take(200).filter_map(|stream| {
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut head = [0; 12];
        let told = stream.read(&mut head).is_ok_and(|n| n == 0 || head.starts_with(b"HTTP/1.1 503"));
        told.then_some(())
    });
    let refused = refused.count();
    assert!(refused > 150, "{refused} of 200");
    drop(held);
    let begun = Instant::now();
    while victim.server.client().try_send(&Request::new("GET", "/v2/")).is_ok_and(|r| r.status != 200) {
        assert!(begun.elapsed() < Duration::from_secs(20), "nobody gets in any more");
        thread::sleep(Duration::from_millis(100));
    }
    victim.well();
}

#[test]
fn floods_of_requests_on_one_connection_and_resets_leave_the_server_well() {
    let victim = victim();
    Image::new().noise(3_000_000, 1).build().push(&victim.server.client(), "team/app", "v1");
    let address = victim.server.address();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Never reads an answer.
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
                let many = b"GET /v2/team/app/manifests/v1 HTTP/1.1\r\nhost: a\r\n\r\n".repeat(200);
                for _ in 0..200 {
                    if stream.write_all(&many).is_err() {
                        break;
                    }
                }
            });
        }
        scope.spawn(|| {
            let tags = victim.server.client().get("/v2/team/app/manifests/v1").json();
            let layer = tags["layers"][0]["digest"].as_str().unwrap().to_string();
            for _ in 0..100 {
                let mut stream = TcpStream::connect(address).unwrap();
                let get = format!("GET /v2/team/app/blobs/{layer} HTTP/1.1\r\nhost: a\r\n\r\n");
                stream.write_all(get.as_bytes()).unwrap();
                let mut some = [0; 1000];
                let _ = stream.read(&mut some);
                // Unread bytes at the close: the other side gets a reset.
            }
        });
    });
    victim.well();
}
