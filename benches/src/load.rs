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
    let peers = Peer::start_registries(dir);
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
