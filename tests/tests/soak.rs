//! A server under everything at once for a long time: nothing of it grows.
//!
//! `SATELLITE_SOAK` says for how many seconds; default 40, and two hours are `SATELLITE_SOAK=7200`. Pushes and deletes,
//! pulls through a link that breaks, clients that leave, replications, collections, evictions and a scrub go on side by
//! side; memory, descriptors, threads, files and the index are looked at all the while. The first third is for warming
//! up; the last must be as the middle one was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use satellite_tests::{
    dir::Dir,
    http::{Client, Request},
    image::{Artifact, Image, with_digest},
    proxy::{Fault, Proxy},
    satellite::{Server, Store},
};

const KIB: usize = 1 << 10;
/// Between two rounds: a soak is for time, not for load.
const PAUSE: Duration = Duration::from_millis(150);
const UPSTREAM_IMAGES: u64 = 24;

/// What a server holds at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// KiB of memory of its own.
    memory: u64,
    descriptors: u64,
    threads: u64,
    /// Files below the data directory.
    files: u64,
    /// Bytes of the index.
    index: u64,
}

impl Held {
    fn of(pid: u32, store: &Store) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        let (files, _) = tree(store.dir());
        let (_, index) = tree(&store.dir().join(".satellite/index"));
        Self { memory: field("RssAnon:"), descriptors, threads: field("Threads:"), files, index }
    }

    fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            files: self.files.max(other.files),
            index: self.index.max(other.index),
        }
    }
}

/// Files and bytes below a directory; what vanishes meanwhile is not counted.
fn tree(dir: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => {
                let below = tree(&entry.path());
                files += below.0;
                bytes += below.1;
            }
            Ok(meta) => {
                files += 1;
                bytes += meta.len();
            }
            Err(_) => {}
        }
    }
    (files, bytes)
}

/// The server, and what is around it.
struct Site {
    link: Proxy,
    cached: Vec<Artifact>,
    kept: Artifact,
    store: Store,
    server: Server,
    _upstream: Server,
    _dir: Dir,
}

impl Site {
    fn new() -> Self {
        let dir = Dir::new();
        let upstream = Store::at(dir.join("upstream")).serve();
        let link = Proxy::start(upstream.address());
        let image = |n: u64| Image::new().noise(600 * KIB, n).noise(20 * KIB, 1000 + n).build();
        let cached: Vec<Artifact> = (0..UPSTREAM_IMAGES).map(image).collect();
        for (n, image) in cached.iter().enumerate() {
            image.push(&upstream.client(), "team/app", &format!("v{n}"));
        }
        let store = Store::at(dir.join("edge"));
        let kept = cached[0].clone();
        store.pull(&format!("{}/team/app:v0", link.host())).ok();
        // Every ninth body breaks in the middle.
        link.on(|seen, before| {
            let broken = seen.is_blob() && (before + seen.target.len()).is_multiple_of(9);
            if broken { Fault::DropAfter(200 * KIB as u64) } else { Fault::Pass }
        });
        let rule = link.host();
        let flags =
            ["--trust-loopback", "--pull-through", &rule, "--revalidate", "2s", "--capacity", "12MiB"];
        let often =
            ["--keep-used", "1s", "--gc-interval", "3s", "--scrub-rate", "4MB", "--scrub-interval", "2s"];
        let server = store.serve_with(flags.iter().chain(&often));
        Self { link, cached, kept, store, server, _upstream: upstream, _dir: dir }
    }

    /// Everything that clients do, once.
    fn round(&self, n: u64) {
        let client = self.server.client();
        // Pushed anew each time: what was there becomes garbage.
        let pushed = Image::new().noise(150 * KIB, 10_000 + n).build();
        pushed.push(&client, "local/app", "latest");
        pushed.check(&client, "local/app", "latest");
        if n.is_multiple_of(5) {
            let gone = format!("/v2/local/app/manifests/{}", pushed.digest);
            client.delete(&gone).expect(202);
        }
        self.kept.check(&client, "team/app", "v0");
        self.pull_through(&client, n);
        abandon(&client, n);
        for bad in ["/v2/local/app/manifests/absent", "/v2/UPPER/manifests/x", "/v2/local/app/blobs/sha256:0"]
        {
            assert!(client.get(bad).status >= 400);
        }
        if n.is_multiple_of(7) {
            self.store.run("pull", ["--plain-http", &format!("{}/team/app:v0", self.link.host())]).ok();
        }
        if n.is_multiple_of(11) {
            self.store.run("gc", ["--grace", "0s"]).ok();
        }
    }

    /// An image that may be cached, evicted or absent; every third client goes away in the middle.
    fn pull_through(&self, client: &Client, n: u64) {
        let which = (n * 7 % UPSTREAM_IMAGES) as usize;
        let name = format!("{}/team/app", self.link.host());
        let manifest = client.get(&format!("/v2/{name}/manifests/v{which}"));
        if manifest.status != 200 {
            return;
        }
        assert_eq!(manifest.body, self.cached[which].manifest);
        for blob in &self.cached[which].blobs {
            let target = format!("/v2/{name}/blobs/{}", blob.digest);
            if n.is_multiple_of(3) {
                let mut connection = client.connect().unwrap();
                connection.write_request(&Request::new("GET", &target)).unwrap();
                let _ = connection.read_head();
                continue;
            }
            // The link may break it: an error or a short body with a cut connection, never wrong bytes.
            let Ok(got) = client.try_send(&Request::new("GET", &target)) else { continue };
            if got.status == 200 && got.whole {
                assert_eq!(got.body, blob.bytes, "wrong bytes of {}", blob.digest);
            }
        }
    }
}

/// An upload that is begun and cancelled, or found to be wrong.
fn abandon(client: &Client, n: u64) {
    let location = client.post("/v2/local/app/blobs/uploads/").expect(202).location();
    let part = Request::new("PATCH", &location).header("Content-Type", "application/octet-stream");
    let next = client.send(&part.bytes(vec![n as u8; 40 * KIB])).expect(202).location();
    if n.is_multiple_of(2) {
        client.delete(&next).expect(204);
    } else {
        let wrong = with_digest(&next, &format!("sha256:{}", "0".repeat(64)));
        client.send(&Request::new("PUT", &wrong).header("Content-Length", "0")).expect(400);
    }
}

#[test]
fn nothing_grows_while_everything_is_done_for_a_long_time() {
    let seconds = std::env::var("SATELLITE_SOAK").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    let (third, begun) = (Duration::from_secs(seconds) / 3, Instant::now());
    let mut site = Site::new();
    let pid = site.server.daemon().pid();
    let mut thirds = [Held::default(); 3];
    let mut rounds = 0;
    loop {
        let now = (begun.elapsed().as_secs_f64() / third.as_secs_f64()) as usize;
        if now > 2 {
            break;
        }
        site.round(rounds);
        rounds += 1;
        let held = Held::of(pid, &site.store);
        thirds[now] = thirds[now].max(held);
        if rounds.is_multiple_of(1000) {
            eprintln!("{rounds} rounds, {:?}: {held:?}", begun.elapsed());
        }
        thread::sleep(PAUSE);
    }
    let [_, middle, last] = thirds;
    eprintln!("{rounds} rounds; at most, by thirds: {thirds:#?}");
    assert!(last.memory <= middle.memory * 11 / 10 + 1024, "memory grows");
    assert!(last.descriptors <= middle.descriptors + 8, "descriptors leak");
    assert!(last.threads <= 20, "threads leak");
    assert!(last.files <= middle.files + 40, "files are left over");
    assert!(last.index <= middle.index * 3 / 2 + (1 << 20), "the index grows");
    assert!(last.memory <= 24 << 10, "{} KiB", last.memory);
    assert!(site.server.stop().success());
}
