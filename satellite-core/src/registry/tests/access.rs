//! Who may do what.

use super::*;

fn passwords(dir: &std::path::Path) -> Htpasswd {
    let path = dir.join("htpasswd");
    let hash = bcrypt::hash("right", 4).unwrap();
    std::fs::write(&path, format!("# users\n\nme:{hash}\n")).unwrap();
    Htpasswd::open(&path).unwrap()
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{name}:{password}")))
}

#[test]
fn who_may_pull_and_push_is_what_the_rules_say() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (basic("me", "right"), basic("me", "wrong"));
    let (stranger, podman) = (basic("you", "right"), basic("", ""));
    let loopbacks = ["127.0.0.1:9", "127.9.9.9:9", "[::1]:9", "[::ffff:127.0.0.1]:9"];
    let others = [REMOTE, "[2001:db8::1]:9", "[::ffff:192.0.2.7]:9", "0.0.0.0:9"];
    smol::block_on(async {
        for (users, private, trust) in (0..8).map(|n| (n & 1 > 0, n & 2 > 0, n & 4 > 0)) {
            let access =
                Access { trust_loopback: trust, users: users.then(|| passwords(dir.path())), private };
            let home = home(Settings::default(), access);
            home.replicate("one.test", "a", "v", BLOB).await;
            let local = loopbacks.iter().map(|p| (p, trust));
            for (peer, trusted) in local.chain(others.iter().map(|p| (p, false))) {
                for (credentials, known, refused) in [
                    (None, false, false),
                    (Some(&podman), false, false),
                    (Some(&right), users, false),
                    (Some(&wrong), false, users),
                    (Some(&stranger), false, users),
                ] {
                    let no = if users { 401 } else { 403 };
                    let status = |ok: u16, free: bool| match () {
                        () if refused => 401,
                        () if known || trusted || free => ok,
                        () => no,
                    };
                    let request = || {
                        let ask = ask().from(peer);
                        credentials.into_iter().fold(ask, |ask, c| ask.with("authorization", c))
                    };
                    let case =
                        format!("users {users}, private {private}, trust {trust}, {peer}, {credentials:?}");
                    let pull = home.send("GET", "/v2/a/manifests/v", request()).await;
                    assert_eq!(pull.status, status(200, !private), "pull: {case}");
                    assert_eq!(
                        home.send("GET", "/v2/", request()).await.status,
                        status(200, !private),
                        "{case}"
                    );
                    let push = home.send("POST", "/v2/a/blobs/uploads/", request()).await;
                    assert_eq!(push.status, status(202, false), "push: {case}");
                    let challenged = !push.header("www-authenticate").is_empty();
                    assert_eq!(challenged, push.status == 401, "{case}");
                    assert_eq!(home.send("GET", "/healthz", request()).await.status, 200, "{case}");
                }
            }
        }
    });
}

#[test]
fn a_request_from_nobody_knows_where_is_not_trusted() {
    smol::block_on(async {
        let home = open();
        let request = http::Request::builder().method("POST").uri("/v2/a/blobs/uploads/");
        let response = home.registry.answer(request.body(RequestBody::from_bytes("")).unwrap()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    });
}
