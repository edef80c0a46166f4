//! The work that the servers are given.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use satellite_tests::{dir::Dir, http::Client, satellite::command};

use crate::{
    measure::Spent,
    peers::{Content, Peer, fill},
};

const BOUND: Duration = Duration::from_secs(120);

fn connect(peer: &Peer) -> TcpStream {
    let stream = TcpStream::connect(peer.address()).expect("a connection");
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}

/// `clients` at once read the blob, together one blob's bytes: each gets its share as a range.
pub(crate) fn pull(peer: &Peer, content: &Content, clients: u64) {
    let share = content.size / clients;
    thread::scope(|scope| {
        for n in 0..clients {
            scope.spawn(move || {
                let mut stream = connect(peer);
                let (first, last) = (n * share, (n + 1) * share - 1);
                let path = peer.blob(content);
                let head = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nRange: bytes={first}-{last}\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                let (mut buffer, mut got) = (vec![0; 256 << 10], 0u64);
                loop {
                    match stream.read(&mut buffer).expect("bytes") {
                        0 => break,
                        n => got += n as u64,
                    }
                }
                assert!(got > share && got < share + 4096, "{} gave {got} bytes of {share}", peer.name());
            });
        }
    });
}

/// The same over TLS, by as many `curl`.
pub(crate) fn pull_tls(peer: &Peer, content: &Content, clients: u64) {
    let share = content.size / clients;
    let url = format!("https://{}{}", peer.address(), peer.blob(content));
    let start = |n: u64| {
        let range = format!("{}-{}", n * share, (n + 1) * share - 1);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--insecure", "--output", "/dev/null", "--range"]);
        curl.args([&range, &url]).spawn().expect("curl")
    };
    let all: Vec<_> = (0..clients).map(start).collect();
    for mut one in all {
        assert!(one.wait().expect("its end").success(), "{}: a pull over TLS failed", peer.name());
    }
}

/// Each of `clients` reads the whole blob, all at once.
pub(crate) fn pull_whole(peer: &Peer, content: &Content, clients: u64) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut stream = connect(peer);
                let head = format!(
                    "GET {} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n",
                    peer.blob(content)
                );
                stream.write_all(head.as_bytes()).unwrap();
                let mut buffer = vec![0; 256 << 10];
                let mut got = 0u64;
                while let n @ 1.. = stream.read(&mut buffer).expect("bytes") {
                    got += n as u64;
                }
                assert!(got > content.size);
            });
        }
    });
}

/// Requests a second for the manifest, by `wrk` with so many connections; none without it.
pub(crate) fn manifests(peer: &Peer, connections: u32, seconds: u32) -> Option<f64> {
    let url = format!("http://{}{}", peer.address(), peer.manifest());
    let (connections, seconds) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let out = Command::new("wrk")
        .args([
            "-t1",
            &connections,
            &seconds,
            "-H",
            "Accept: application/vnd.oci.image.manifest.v1+json",
            &url,
        ])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{}: {text}", peer.name());
    text.lines().find_map(|l| l.trim().strip_prefix("Requests/sec:"))?.trim().parse().ok()
}

/// Connections that say nothing: how many were held, and the server's peak in KiB.
pub(crate) fn idle_connections(peer: &Peer, count: usize) -> (usize, u64) {
    let _ = std::fs::write(format!("/proc/{}/clear_refs", peer.pid()), "5");
    let all: Vec<TcpStream> = (0..count).filter_map(|_| TcpStream::connect(peer.address()).ok()).collect();
    thread::sleep(Duration::from_millis(500));
    let held = std::fs::read_dir(format!("/proc/{}/fd", peer.pid())).map_or(0, Iterator::count);
    drop(all);
    (held, crate::measure::peak(peer.pid()))
}

/// Eight layers of the content's size, replicated at once by a satellite; its peak.
pub(crate) fn replicate_eight(dir: &Dir, size: u64) -> Spent {
    let peers = Peer::start_registries(dir, &[]);
    let mut layers = Vec::new();
    for n in 0..8 {
        let content = Content::make(&dir.join("eight"), size + (n << 20));
        push(&peers[0], &content);
        layers.push((content.digest.clone(), content.size));
        if n == 7 {
            let client = Client::new(peers[0].address());
            content.config.try_push(&client, "bench").expect("the configuration");
            let layer = |(digest, size): &(String, u64)| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#
                )
            };
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[{}]}}"#,
                content.config.media_type,
                content.config.digest,
                layers.iter().map(layer).collect::<Vec<_>>().join(",")
            );
            client.put("/v2/bench/manifests/eight", kind, manifest.as_bytes()).expect(201);
        }
        std::fs::remove_file(&content.path).expect("the content");
    }
    let to = dir.join("edge-eight");
    let image = format!("{}/bench:eight", peers[0].address());
    let mut pull = command([
        "pull",
        "--data-dir",
        to.to_str().unwrap(),
        "--all-platforms",
        "--concurrency",
        "8",
        &image,
    ]);
    let spent = Spent::of_command(pull.stdout(Stdio::null()).stderr(Stdio::null()));
    let _ = std::fs::remove_dir_all(&to);
    spent
}

/// One monolithic upload of the blob.
pub(crate) fn push(peer: &Peer, content: &Content) {
    let begun = Client::new(peer.address()).post("/v2/bench/blobs/uploads/").expect(202);
    let location = begun.location();
    let mark = if location.contains('?') { '&' } else { '?' };
    let mut stream = connect(peer);
    let head = format!(
        "PUT {location}{mark}digest={} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.digest, content.size
    );
    stream.write_all(head.as_bytes()).unwrap();
    std::io::copy(&mut File::open(&content.path).unwrap(), &mut stream).expect("the upload");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{}: {answer}", peer.name());
}

/// Plain reception and writing, without hash, checkpoints or index: what any program pays for these bytes here.
pub(crate) fn receive(address: &str, path: &str, file: &str) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").unwrap();
    let mut file = File::create(file).expect("a file");
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..]).expect("bytes");
        filled += n;
        if n == 0 || filled == buffer.len() {
            file.write_all(&buffer[..filled]).expect("room");
            filled = 0;
        }
        if n == 0 {
            break;
        }
    }
    file.sync_data().expect("a sync");
}

/// The image from a satellite into an empty store; and the same by skopeo, into a layout.
pub(crate) fn replicate(dir: &Dir, content: &Content) -> Vec<(&'static str, Spent)> {
    let peers = Peer::start_registries(dir, &[]);
    let upstream = &peers[0];
    fill(upstream, content);
    let image = format!("{}/bench:v1", upstream.address());
    let to = dir.join("edge");
    let _ = std::fs::remove_dir_all(&to);
    let mut pull = command(["pull", "--data-dir", to.to_str().unwrap(), "--all-platforms", &image]);
    let mut all = vec![("satellite", Spent::of_command(pull.stdout(Stdio::null()).stderr(Stdio::null())))];
    let _ = std::fs::remove_dir_all(&to);
    let mut plain = Command::new(std::env::current_exe().expect("our own path"));
    plain.args(["--receive", &upstream.address().to_string(), &upstream.blob(content)]).arg(&to);
    all.push(("plain receive and write", Spent::of_command(&mut plain)));
    std::fs::remove_file(&to).expect("what was received");
    if satellite_tests::has("skopeo") {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--src-tls-verify=false", &format!("docker://{image}")]);
        all.push((
            "skopeo",
            Spent::of_command(skopeo.arg(format!("oci:{}:v1", to.display())).stdout(Stdio::null())),
        ));
        let _ = std::fs::remove_dir_all(&to);
    }
    all
}
