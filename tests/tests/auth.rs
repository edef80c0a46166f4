//! Who may do what: at upstreams that want a password or a token, and at the satellite's own registry.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use satellite_tests::certs::Certs;
use satellite_tests::dir::Dir;
use satellite_tests::http::{Client, Request};
use satellite_tests::image::Image;
use satellite_tests::process::{Finished, run};
use satellite_tests::proxy::{Fault, Proxy};
use satellite_tests::registry::{Options, PASSWORD, Registry, USER, htpasswd};
use satellite_tests::satellite::Store;
use satellite_tests::{has, skip};
use std::ffi::OsString;
use std::process::Command;
use std::time::Duration;

/// An upstream that has `app:v1` and wants credentials, and an empty store.
struct Site {
    registry: Registry,
    store: Store,
    image: satellite_tests::image::Artifact,
    dir: Dir,
}

fn site(test: &str, options: &Options) -> Option<Site> {
    if !Registry::available() || !has("skopeo") || !has("htpasswd") || !has("openssl") {
        skip(test, "docker-registry, skopeo, htpasswd or openssl is missing; tests/install gets them");
        return None;
    }
    let (dir, registry) = (Dir::new(), Registry::with(options));
    let image = Image::new().noise(300_000, 1).build();
    image.write_layout(&dir.join("image"), "v1");
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args(["--insecure-policy", "copy", "--preserve-digests"])
        .arg(format!("--dest-creds={USER}:{PASSWORD}"));
    if options.tls {
        std::fs::create_dir(dir.join("trust")).unwrap();
        std::fs::copy(&registry.certs().ca, dir.join("trust/ca.crt")).unwrap();
        skopeo.arg("--dest-cert-dir").arg(dir.join("trust"));
    } else {
        skopeo.arg("--dest-tls-verify=false");
    }
    let to = format!("docker://{}/app:v1", registry.host());
    run(skopeo.arg(format!("oci:{}:v1", dir.join("image").display())).arg(to), Duration::from_secs(60)).ok();
    Some(Site { store: Store::at(dir.join("s")), registry, image, dir })
}

impl Site {
    fn reference(&self) -> String {
        format!("{}/app:v1", self.registry.host())
    }

    /// Pulls with a name and a password, and whatever the transport needs.
    fn pull_as(&self, user: &str, password: &str) -> Finished {
        let mut arguments: Vec<OsString> = vec!["--username".into(), user.into(), "--password-stdin".into()];
        arguments.extend(self.transport());
        arguments.push(self.reference().into());
        self.store.run_with("pull", arguments, password)
    }

    fn transport(&self) -> Vec<OsString> {
        let ca = self.dir.join("trust/ca.crt");
        if ca.exists() { vec!["--ca-file".into(), ca.into()] } else { vec!["--plain-http".into()] }
    }

    #[track_caller]
    fn arrived(&self) {
        self.image.check(&self.store.serve().client(), "app", "v1");
    }
}

#[test]
fn upstreams_with_passwords_and_tokens_plain_and_over_tls_let_in_who_knows() {
    for (basic, token, tls) in
        [(true, false, false), (false, true, false), (true, false, true), (false, true, true)]
    {
        let Some(site) = site("upstream's password", &Options { basic, token, tls, ..Options::default() })
        else {
            return;
        };
        let mut bare = site.transport();
        bare.push(site.reference().into());
        site.store.run("pull", bare).exits(4).decent().complains(&[&site.registry.host()]);
        let said = site.pull_as(USER, "wrong").exits(4).decent();
        assert!(!said.stderr.contains("wrong:") && !said.stderr.contains("d3Jvbmc"), "a password in {said}");
        site.pull_as(USER, PASSWORD).ok();
        site.arrived();
    }
}

#[test]
fn a_token_that_lives_shorter_than_the_pull_is_fetched_anew() {
    let Some(site) = site("short tokens", &Options { token: true, ..Options::default() }) else { return };
    let link = Proxy::start(site.registry.address());
    link.limit(100_000);
    // The layer takes three seconds and breaks off after two.
    let layer = site.image.blobs[1].digest.clone();
    link.on(move |seen, before| {
        if seen.target.contains(&layer) && before == 0 { Fault::DropAfter(200_000) } else { Fault::Pass }
    });
    site.registry.tokens().expires_in(1);
    let before = site.registry.tokens().issued();
    let arguments =
        ["--plain-http", "--username", USER, "--password-stdin", &format!("{}/app:v1", link.host())];
    site.store.run_with("pull", arguments, PASSWORD).ok();
    let issued = site.registry.tokens().issued() - before;
    assert!(issued >= 2, "{issued} token of one second was good for three");
    site.arrived();
}

#[test]
fn a_token_asks_for_no_more_than_it_needs_and_push_asks_for_push() {
    let Some(site) = site("scopes", &Options { token: true, ..Options::default() }) else { return };
    let before = site.registry.tokens().scopes().len();
    site.pull_as(USER, PASSWORD).ok();
    let asked = site.registry.tokens().scopes().split_off(before);
    assert!(!asked.is_empty() && asked.iter().all(|scope| scope == "repository:app:pull"), "{asked:?}");
    let to = format!("{}/team/copy:v9", site.registry.host());
    let arguments = ["--plain-http", "--username", USER, "--password-stdin", "app:v1", &to];
    site.store.run_with("push", arguments, PASSWORD).ok();
    let asked = site.registry.tokens().scopes();
    assert!(
        asked.iter().any(|scope| scope.starts_with("repository:team/copy:") && scope.contains("push")),
        "{asked:?}"
    );
}

#[test]
fn credentials_are_taken_from_dockers_config_file() {
    use base64::Engine as _;
    let Some(site) = site("config.json", &Options { basic: true, ..Options::default() }) else { return };
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = serde_json::json!({"auths": {site.registry.host(): {"auth": pair}}});
    std::fs::write(site.dir.join("config.json"), config.to_string()).unwrap();
    let mut command = site.store.command("pull", ["--plain-http", &site.reference()]);
    run(command.env("DOCKER_CONFIG", site.dir.path()), satellite_tests::satellite::BOUND).ok();
    site.arrived();
}

#[test]
fn tls_of_an_unknown_authority_and_plain_http_on_a_tls_port_are_refused_by_name() {
    let Some(site) = site("TLS", &Options { tls: true, ..Options::default() }) else { return };
    // Loopback is spoken to in plain HTTP unless an authority is named: here one that signed something else.
    let stranger = Certs::make(&site.dir.join("stranger"));
    let arguments = ["--ca-file".into(), stranger.ca.into_os_string(), site.reference().into()];
    site.store.run("pull", arguments).exits(6).decent().complains(&["certificate"]);
    site.store.pull(&site.reference()).decent().exits(6);
    // A certificate for 127.0.0.1 and localhost does not vouch for another name of the same machine.
    let other = format!("ip6-localhost:{}/app:v1", site.registry.address().port());
    let mut arguments = site.transport();
    arguments.push(other.into());
    site.store.run("pull", arguments).exits(6).decent();
    let mut arguments = site.transport();
    arguments.push(site.reference().into());
    site.store.run("pull", arguments).ok();
    site.arrived();
}

#[test]
fn credentials_go_to_the_registry_they_were_given_for_and_to_nobody_else() {
    let Some(site) = site("whose credentials", &Options { basic: true, ..Options::default() }) else {
        return;
    };
    let (ours, stranger) = (Proxy::start(site.registry.address()), Proxy::start(site.registry.address()));
    let to = stranger.address();
    ours.on(move |seen, _| if seen.is_blob() { Fault::Redirect(to) } else { Fault::Pass });
    let arguments =
        ["--plain-http", "--username", USER, "--password-stdin", &format!("{}/app:v1", ours.host())];
    // The stranger passes on to a registry that wants a password, which it must not get: so this fails.
    let said = site.store.run_with("pull", arguments, PASSWORD).decent();
    assert_ne!(said.code, Some(0), "{said}");
    let told: Vec<_> =
        stranger.seen("").into_iter().filter(|seen| seen.header("authorization").is_some()).collect();
    assert!(told.is_empty(), "{told:?}");
    assert!(!stranger.seen("").is_empty());
}

/// A satellite that knows one user.
fn guarded(dir: &Dir, flags: &[&str]) -> satellite_tests::satellite::Server {
    std::fs::write(dir.join("users"), htpasswd(USER, PASSWORD)).unwrap();
    let users = dir.join("users");
    Store::at(dir.join("s")).serve_with(["--htpasswd", users.to_str().unwrap()].iter().chain(flags))
}

/// Status of each kind of request: pull, push, delete.
fn may(client: &Client) -> (u16, u16, u16) {
    let pull = client.get("/v2/app/manifests/v1").status;
    let push = client.post("/v2/app/blobs/uploads/").status;
    let delete = client.delete("/v2/app/manifests/none").status;
    (pull, push, delete)
}

#[test]
fn pull_is_for_everybody_and_push_and_delete_for_users() {
    if !has("htpasswd") {
        return skip("htpasswd", "the program is missing; tests/install gets it");
    }
    let dir = Dir::new();
    let mut server = guarded(&dir, &[]);
    let (anonymous, user) = (server.client(), server.client().basic(USER, PASSWORD));
    Image::new().noise(1000, 1).build().push(&user, "app", "v1");
    assert_eq!(may(&anonymous), (200, 401, 401));
    assert_eq!(may(&user), (200, 202, 404));
    for wrong in
        [user.clone().basic(USER, "no"), user.clone().basic("nobody", PASSWORD), user.clone().basic("", "")]
    {
        let (_, push, delete) = may(&wrong);
        assert_eq!((push, delete), (401, 401));
    }
    for header in ["Basic", "Basic ", "Basic !!!", "Bearer x", "Basic Og==", "Negotiate YII="] {
        let post = Request::new("POST", "/v2/app/blobs/uploads/")
            .header("Content-Length", "0")
            .header("Authorization", header);
        let answer = anonymous.send(&post).expect(401);
        assert!(
            answer.header("www-authenticate").unwrap_or_default().to_lowercase().starts_with("basic"),
            "{header}"
        );
        assert_eq!(answer.code(), "UNAUTHORIZED");
    }
    let log = server.daemon().log();
    assert!(!log.contains(PASSWORD) && !log.contains("Basic "), "secrets in the log:\n{log}");
}

#[test]
fn without_users_and_without_trust_nobody_pushes_and_everybody_pulls() {
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let server = store.serve();
    Image::new().noise(1000, 1).build().push(&server.client(), "app", "v1");
    drop(server);
    let server = store.serve_with::<&str>([]);
    let (pull, push, delete) = may(&server.client());
    assert_eq!(pull, 200);
    assert!(matches!((push, delete), (401 | 403, 401 | 403)), "{push} {delete}");
}

#[test]
fn a_read_only_registry_refuses_changes_even_of_users() {
    let dir = Dir::new();
    let store = Store::at(dir.join("s"));
    let server = store.serve();
    let image = Image::new().noise(1000, 1).build();
    image.push(&server.client(), "app", "v1");
    drop(server);
    let server = store.serve_with(["--trust-loopback", "--read-only"]);
    let (pull, push, delete) = may(&server.client());
    assert_eq!(pull, 200);
    assert!(matches!((push, delete), (403 | 405, 403 | 405)), "{push} {delete}");
    image.check(&server.client(), "app", "v1");
}

#[test]
fn a_certificate_that_is_replaced_on_disk_is_used_without_a_restart() {
    if !has("openssl") || !has("curl") {
        return skip("certificate reload", "openssl or curl is missing; tests/install gets them");
    }
    let dir = Dir::new();
    let certs = Certs::make(&dir.join("certs"));
    let mut flags: Vec<OsString> = vec!["--tls-cert".into(), certs.cert.clone().into()];
    flags.extend(["--tls-key".into(), certs.key.clone().into()]);
    let server = Store::at(dir.join("s")).serve_with(flags);
    let curl = |ca: &std::path::Path| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "10", "--cacert"]).arg(ca);
        run(curl.arg(format!("https://{}/v2/", server.host())), Duration::from_secs(20))
    };
    curl(&certs.ca).ok();
    let newer = Certs::make(&dir.join("newer"));
    std::fs::copy(&newer.key, &certs.key).unwrap();
    std::fs::copy(&newer.cert, &certs.cert).unwrap();
    satellite_tests::wait::until(Duration::from_secs(30), "the new certificate", || {
        (curl(&newer.ca).code == Some(0)).then_some(())
    });
    assert_ne!(curl(&certs.ca).code, Some(0), "the old certificate is still used");
    // A file that is none leaves the good one in use.
    std::fs::write(&certs.cert, "not a certificate").unwrap();
    for _ in 0..5 {
        curl(&newer.ca).ok();
    }
}
