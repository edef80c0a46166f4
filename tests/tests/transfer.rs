//! Bad links and lying upstreams: a transfer ends right, or with an error that names the object and the cause;
//! and what has come once does not come again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use satellite_tests::dir::Dir;
use satellite_tests::image::{Artifact, Image};
use satellite_tests::process::Daemon;
use satellite_tests::proxy::{Fault, Proxy};
use satellite_tests::registry::{Options, PASSWORD, Registry, USER};
use satellite_tests::satellite::{BOUND, Store};
use satellite_tests::{skip, wait};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// An upstream with one image, a link to it, and an empty store.
struct Site {
    registry: Registry,
    link: Proxy,
    image: Artifact,
    store: Store,
    _dir: Dir,
}

/// The image is `app/big:v1` and has one layer of that size.
fn site(test: &str, size: u64, options: &Options) -> Option<Site> {
    if !Registry::available() {
        skip(test, "docker-registry is missing; tests/install gets it");
        return None;
    }
    let dir = Dir::new();
    let registry = Registry::with(options);
    let image = Image::new().noise(usize::try_from(size).unwrap(), size).build();
    if !options.token {
        image.push(&registry.client(), "app/big", "v1");
    }
    let (link, store) = (Proxy::start(registry.address()), Store::at(dir.join("s")));
    Some(Site { registry, link, image, store, _dir: dir })
}

fn plain(test: &str, size: u64) -> Option<Site> {
    site(test, size, &Options::default())
}

impl Site {
    fn reference(&self) -> String {
        format!("{}/app/big:v1", self.link.host())
    }

    /// The digest of the one layer.
    fn blob(&self) -> &str {
        &self.image.blobs[1].digest
    }

    fn size(&self) -> u64 {
        self.image.blobs[1].bytes.len() as u64
    }

    /// Bytes of the layer that crossed the link.
    fn crossed(&self) -> u64 {
        self.link.bytes(self.blob())
    }

    #[track_caller]
    fn arrived(&self) {
        self.image.check(&self.store.serve().client(), "app/big", "v1");
    }

    /// Nothing of it may be seen: neither the tag, nor the manifest, nor the blob.
    #[track_caller]
    fn invisible(&self) {
        let server = self.store.serve();
        server.client().get("/v2/app/big/manifests/v1").expect(404);
        server.client().get(&format!("/v2/app/big/manifests/{}", self.image.digest)).expect(404);
        server.client().get(&format!("/v2/app/big/blobs/{}", self.blob())).expect(404);
    }

    /// Does that to the layer alone.
    fn on_blob(&self, fault: impl Fn(usize) -> Fault + Send + Sync + 'static) {
        let digest = self.blob().to_owned();
        self.link.on(move |seen, before| {
            if seen.is_blob() && seen.target.contains(&digest) { fault(before) } else { Fault::Pass }
        });
    }
}

#[test]
fn a_link_that_drops_every_mebibyte_costs_no_byte_twice() {
    let Some(site) = plain("drops", 12 * MIB) else { return };
    site.on_blob(|_| Fault::DropAfter(MIB));
    site.store.pull(&site.reference()).ok();
    let crossed = site.crossed();
    assert!(
        crossed * 100 <= site.size() * 105,
        "{crossed} bytes crossed the link for a blob of {}",
        site.size()
    );
    site.arrived();
}

#[test]
fn a_link_that_drops_every_few_kilobytes_still_carries_a_blob_to_its_end() {
    let Some(site) = plain("short drops", 2 * MIB) else { return };
    site.on_blob(|before| Fault::DropAfter(40_000 + 1000 * (before as u64 % 7)));
    site.store.pull(&site.reference()).ok();
    let crossed = site.crossed();
    assert!(
        crossed * 100 <= site.size() * 105,
        "{crossed} bytes crossed the link for a blob of {}",
        site.size()
    );
    site.arrived();
}

#[test]
fn a_stalled_transfer_is_noticed_and_goes_on_where_it_stood() {
    let Some(site) = plain("stall", 8 * MIB) else { return };
    site.on_blob(|before| if before == 0 { Fault::StallAfter(3 * MIB) } else { Fault::Pass });
    site.store.run("pull", ["--plain-http", "--stall-timeout", "3s", &site.reference()]).ok();
    let crossed = site.crossed();
    assert!(
        crossed * 100 <= site.size() * 105,
        "{crossed} bytes crossed the link for a blob of {}",
        site.size()
    );
    site.arrived();
}

#[test]
fn a_slow_link_is_no_stalled_one() {
    let Some(site) = plain("slow link", MIB) else { return };
    site.link.limit(100_000);
    site.store.pull(&site.reference()).ok();
    assert_eq!(site.crossed(), site.size());
    site.arrived();
}

#[test]
fn a_wrong_byte_is_found_named_and_never_served() {
    let Some(site) = plain("wrong byte", 3 * MIB) else { return };
    site.on_blob(|_| Fault::WrongByte(2 * MIB));
    site.store.pull(&site.reference()).exits(7).decent().complains(&[site.blob(), "expected"]);
    site.invisible();
    // The lie leaves nothing behind that could spoil the next attempt.
    site.link.behave();
    site.store.pull(&site.reference()).ok();
    site.arrived();
}

#[test]
fn a_wrong_manifest_is_found_named_and_never_served() {
    let Some(site) = plain("wrong manifest", MIB) else { return };
    site.link.on(|seen, _| if seen.is_manifest() { Fault::WrongByte(30) } else { Fault::Pass });
    let by_digest = format!("{}/app/big@{}", site.link.host(), site.image.digest);
    site.store.pull(&by_digest).exits(7).decent().complains(&[&site.image.digest]);
    site.store.pull(&site.reference()).exits(7).decent();
    site.invisible();
}

#[test]
fn a_short_answer_is_an_error_that_names_the_blob() {
    let Some(site) = plain("short", 2 * MIB) else { return };
    site.on_blob(|_| Fault::Short(100));
    let said = site.store.pull(&site.reference()).decent().complains(&[site.blob()]);
    assert!(matches!(said.code, Some(6 | 7)), "{said}");
    site.invisible();
}

#[test]
fn a_long_answer_is_cut_at_the_blobs_size_or_refused() {
    let Some(site) = plain("long", 2 * MIB) else { return };
    site.on_blob(|_| Fault::Long(50 * MIB));
    let said = site.store.pull(&site.reference()).decent();
    assert!(site.crossed() < 20 * MIB, "{} bytes of an endless answer were taken", site.crossed());
    if said.code == Some(0) {
        return site.arrived();
    }
    assert!(matches!(said.code, Some(6 | 7)), "{said}");
    said.complains(&[site.blob()]);
    site.invisible();
}

#[test]
fn every_second_answer_an_error_of_the_server_is_lived_with() {
    let Some(site) = plain("5xx", 2 * MIB) else { return };
    site.link.on(|_, before| {
        if before % 2 == 0 { Fault::status([500, 502, 503, 429][before / 2 % 4]) } else { Fault::Pass }
    });
    site.store.pull(&site.reference()).ok();
    // Bodies of errors are not counted: they are no part of the object.
    assert_eq!(site.crossed(), site.size());
    site.arrived();
}

#[test]
fn a_server_that_only_fails_is_given_up_with_its_status_and_the_object_named() {
    let Some(site) = plain("only 503", MIB) else { return };
    site.on_blob(|_| Fault::status(503));
    site.store.pull(&site.reference()).exits(6).decent().complains(&[site.blob(), "503"]);
    site.invisible();
    // Not for ever, and not at once either.
    let tries = site.link.seen(site.blob()).len();
    assert!((2..=20).contains(&tries), "{tries} attempts");
}

#[test]
fn retry_after_is_waited_for() {
    let Some(site) = plain("Retry-After", MIB) else { return };
    let later = || Fault::Status(429, vec![("Retry-After".into(), "2".into())]);
    site.on_blob(move |before| if before == 0 { later() } else { Fault::Pass });
    let said = site.store.pull(&site.reference());
    assert!(said.took >= Duration::from_secs(2), "{said}");
    said.ok();
    site.arrived();
}

#[test]
fn an_upstream_that_never_answers_is_given_up() {
    let Some(site) = plain("silence", MIB) else { return };
    site.link.on(|_, _| Fault::Silence);
    let said = site.store.run("pull", ["--plain-http", "--stall-timeout", "3s", &site.reference()]);
    said.exits(6).decent().complains(&[&site.link.host()]);
}

#[test]
fn a_blob_the_upstream_lacks_is_named() {
    let Some(site) = plain("404", MIB) else { return };
    site.on_blob(|_| Fault::status(404));
    let said = site.store.pull(&site.reference()).decent().complains(&[site.blob()]);
    assert!(matches!(said.code, Some(3 | 6)), "{said}");
    site.invisible();
}

#[test]
fn a_token_that_is_refused_in_the_middle_is_replaced_and_the_transfer_goes_on() {
    let options = Options { token: true, ..Options::default() };
    let Some(site) = site("401 in the middle", 4 * MIB, &options) else { return };
    let from = Store::at(site.store.dir().with_extension("from"));
    let server = from.serve();
    site.image.push(&server.client(), "app/big", "v1");
    drop(server);
    let to = format!("{}/app/big:v1", site.registry.host());
    from.run_with(
        "push",
        ["--plain-http", "--username", USER, "--password-stdin", "app/big:v1", &to],
        PASSWORD,
    )
    .ok();
    let before = site.registry.tokens().issued();
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"test\",scope=\"repository:app/big:pull\",error=\"invalid_token\"",
        site.registry.tokens().realm()
    );
    site.on_blob(move |before| match before {
        0 => Fault::DropAfter(MIB),
        1 => Fault::Status(401, vec![("WWW-Authenticate".into(), challenge.clone())]),
        _ => Fault::Pass,
    });
    let arguments = ["--plain-http", "--username", USER, "--password-stdin", &site.reference()];
    site.store.run_with("pull", arguments, PASSWORD).ok();
    assert!(site.registry.tokens().issued() >= before + 2, "no new token was fetched");
    assert!(site.crossed() * 100 <= site.size() * 105, "{} bytes crossed", site.crossed());
    site.arrived();
}

#[test]
fn a_redirect_is_followed_without_the_credentials() {
    let Some(site) = plain("redirect", 2 * MIB) else { return };
    let storage = Proxy::start(site.registry.address());
    let elsewhere = storage.address();
    let basic = ("WWW-Authenticate".to_owned(), "Basic realm=\"link\"".to_owned());
    site.link.on(move |seen, _| match seen.header("authorization") {
        None => Fault::Status(401, vec![basic.clone()]),
        Some(_) if seen.is_blob() => Fault::Redirect(elsewhere),
        Some(_) => Fault::Pass,
    });
    // The object storage cuts the link once: the rest is asked for by way of a new redirect or at the old place.
    storage.on(|_, before| if before == 0 { Fault::DropAfter(MIB / 2) } else { Fault::Pass });
    let arguments = ["--plain-http", "--username", USER, "--password-stdin", &site.reference()];
    site.store.run_with("pull", arguments, PASSWORD).ok();
    let leaked = storage.seen("").into_iter().filter(|seen| seen.header("authorization").is_some()).count();
    assert_eq!(leaked, 0, "credentials went to where the redirect pointed");
    assert!(storage.bytes(site.blob()) * 100 <= site.size() * 105);
    site.arrived();
}

#[test]
fn a_redirect_in_a_circle_ends_in_an_error() {
    let Some(site) = plain("redirect circle", MIB) else { return };
    let itself = site.link.address();
    site.on_blob(move |_| Fault::Redirect(itself));
    site.store.pull(&site.reference()).exits(6).decent().complains(&[site.blob(), "redirect"]);
    assert!(site.link.seen(site.blob()).len() < 200);
}

#[test]
fn a_server_that_ignores_ranges_costs_a_second_fetch_but_no_wrong_byte() {
    let Some(site) = plain("no ranges", 4 * MIB) else { return };
    site.on_blob(|before| if before == 0 { Fault::DropAfter(3 * MIB) } else { Fault::IgnoreRange });
    site.store.pull(&site.reference()).ok();
    site.arrived();
}

#[test]
fn a_failed_update_leaves_the_old_image_whole_under_its_tag() {
    let Some(site) = plain("failed update", 2 * MIB) else { return };
    site.store.pull(&site.reference()).ok();
    let newer = Image::new().noise(3_000_000, 99).build();
    newer.push(&site.registry.client(), "app/big", "v1");
    site.link.on(|seen, _| if seen.is_blob() { Fault::DropAfter(0) } else { Fault::Pass });
    let said = site.store.pull(&site.reference()).decent();
    assert_ne!(said.code, Some(0), "{said}");
    site.arrived();
    site.link.behave();
    site.store.pull(&site.reference()).ok();
    newer.check(&site.store.serve().client(), "app/big", "v1");
}

#[test]
fn a_killed_pull_resumes_within_eight_mebibytes_of_what_it_had() {
    let Some(site) = plain("resume", 40 * MIB) else { return };
    site.link.limit(24 * MIB);
    let mut command = site.store.command("pull", ["--plain-http", &site.reference()]);
    let mut pull = Daemon::start("satellite pull", &mut command, &site.store.dir().with_extension("pull"));
    wait::until(BOUND, "30 MiB across the link", || (site.crossed() > 30 * MIB).then_some(()));
    pull.kill();
    let had = site.crossed();
    site.link.limit(0);
    site.store.pull(&site.reference()).ok();
    let second = &site.link.seen(site.blob())[1];
    let again = had.saturating_sub(second.offset());
    eprintln!("killed after {had} bytes, resumed at {}: {again} bytes again", second.offset());
    assert!(again <= 8 * MIB, "{again} bytes were fetched again");
    assert!(site.crossed() <= site.size() + 8 * MIB, "{} bytes crossed for {}", site.crossed(), site.size());
    site.arrived();
}

#[test]
fn an_interrupted_pull_loses_nothing_and_says_so() {
    let Some(site) = plain("interrupt", 16 * MIB) else { return };
    site.link.limit(8 * MIB);
    let mut command = site.store.command("pull", ["--plain-http", &site.reference()]);
    let mut pull = Daemon::start("satellite pull", &mut command, &site.store.dir().with_extension("pull"));
    wait::until(BOUND, "4 MiB across the link", || (site.crossed() > 4 * MIB).then_some(()));
    pull.signal(rustix::process::Signal::INT);
    assert_eq!(pull.wait(Duration::from_secs(10)).code(), Some(130), "{}", pull.log());
    site.link.limit(0);
    site.store.pull(&site.reference()).ok();
    // A polite end may write a checkpoint: only what was still in the sockets' buffers comes twice.
    assert!(site.crossed() <= site.size() + 8 * MIB, "{} bytes crossed for {}", site.crossed(), site.size());
    site.arrived();
}

#[test]
fn the_set_rate_is_kept_within_five_percent() {
    let Some(site) = plain("rate", 16 * MIB) else { return };
    let start = Instant::now();
    site.store.run("pull", ["--plain-http", "--limit-rate", "4MiB", &site.reference()]).ok();
    let took = start.elapsed().as_secs_f64();
    eprintln!("16 MiB at 4 MiB/s took {took:.2} s");
    // Start and end of a process that syncs its store cost something too.
    assert!((3.8..4.7).contains(&took), "16 MiB at 4 MiB/s took {took:.2} s");
    site.arrived();
}

#[test]
fn two_pulls_at_once_beside_a_server_fetch_a_blob_once() {
    let Some(site) = plain("single flight", 6 * MIB) else { return };
    let other = Image::new().layer(site.image.blobs[1].clone()).noise(1000, 5).build();
    other.push(&site.registry.client(), "app/other", "v1");
    site.link.limit(4 * MIB);
    let server = site.store.serve();
    std::thread::scope(|scope| {
        scope.spawn(|| site.store.pull(&site.reference()).ok());
        scope.spawn(|| site.store.pull(&format!("{}/app/other:v1", site.link.host())).ok());
    });
    assert_eq!(site.crossed(), site.size(), "the layer that both images share");
    site.image.check(&server.client(), "app/big", "v1");
    other.check(&server.client(), "app/other", "v1");
}
