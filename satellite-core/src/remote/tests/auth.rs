//! The `WWW-Authenticate` dance, over sockets.

use std::sync::{Arc, Mutex, OnceLock};

use super::*;
use crate::net::client::script::{Reply, Seen, reply, run};

/// A registry with Harbor's habits: a token service, and a Basic challenge to whoever sent any `Authorization`.
struct Harbor {
    port: Arc<OnceLock<u16>>,
    issued: u32,
    /// Tokens are good for so many requests.
    uses: u32,
    used: u32,
    expires_in: &'static str,
    /// A wrong state of its own: this many requests with a right password or token are refused.
    frozen: u32,
    takes_basic: bool,
}

impl Harbor {
    fn new() -> Self {
        Self {
            port: Arc::default(),
            issued: 0,
            uses: u32::MAX,
            used: 0,
            expires_in: "1800",
            frozen: 0,
            takes_basic: true,
        }
    }

    fn start(mut self) -> Script {
        let port = self.port.clone();
        let script = Script::start(move |seen| self.answer(seen));
        port.set(script.port).unwrap();
        script
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        let authorization = seen.header("authorization");
        if seen.target.starts_with("/service/token") {
            self.issued += 1;
            self.used = 0;
            let body = format!(
                r#"{{"token":"t{}","access_token":"","expires_in":{},"issued_at":"1970-01-01T00:00:00Z"}}"#,
                self.issued, self.expires_in
            );
            return reply("200 OK", "Set-Cookie: sid=1\r\n", body);
        }
        let good = match authorization {
            Some(BASIC) => self.takes_basic,
            Some(bearer) => {
                self.used += 1;
                bearer == format!("Bearer t{}", self.issued) && self.used <= self.uses
            }
            None => false,
        };
        if good && self.frozen == 0 {
            return reply("200 OK", "", r#"{"tags":["v1"]}"#);
        }
        self.frozen = self.frozen.saturating_sub(u32::from(good));
        let challenge = match authorization {
            Some(_) => r#"Basic realm="harbor""#.to_string(),
            None if seen.target.contains("hidden-project") => String::new(),
            None => format!(
                r#"Bearer realm="http://127.0.0.1:{}/service/token",service="harbor-registry",scope="repository:edge/app:pull""#,
                self.port.get().unwrap()
            ),
        };
        reply(
            "401 Unauthorized",
            &format!("Www-Authenticate: {challenge}\r\n"),
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"unauthorized: unauthorized"}]}"#,
        )
    }
}

const TOKEN: &str = "GET /service/token?service=harbor-registry&scope=repository%3Aedge%2Fapp%3Apull";
const TAGS: &str = "GET /v2/edge/app/tags/list?n=1000";

#[test]
fn one_token_serves_many_requests_and_nothing_is_sent_unasked() {
    run(async |executor| {
        let server = Harbor::new().start();
        let registry = registry(&server, password(), executor);
        for _ in 0..3 {
            registry.tags(&app()).await.unwrap();
        }
        assert_eq!(server.lines(), [TAGS, TOKEN, TAGS, TAGS, TAGS]);
        let seen = server.seen();
        let sent: Vec<_> = seen.iter().map(|s| s.header("authorization")).collect();
        let bearer = Some("Bearer t1");
        assert_eq!(sent, [None, Some(BASIC), bearer, bearer, bearer]);
        assert!(seen.iter().all(|s| s.header("cookie").is_none() && s.connection == 0));
    });
}

#[test]
fn many_requests_at_once_cost_one_token() {
    run(async |executor| {
        let server = Harbor::new().start();
        let registry = registry(&server, password(), executor.clone());
        registry.tags(&app()).await.unwrap();
        let delete_scope: Vec<_> = (0..8)
            .map(|_| {
                let registry = registry.clone();
                executor.spawn(async move { registry.delete_blob(&app(), &Digest::sha256(b"")).await })
            })
            .collect();
        for task in delete_scope {
            assert!(task.await.unwrap());
        }
        let tokens: Vec<_> = server.lines().into_iter().filter(|l| l.contains("/service/token")).collect();
        // The second holds what the first did, too.
        assert_eq!(tokens.len(), 2, "{tokens:?}");
        assert!(tokens[1].ends_with("scope=repository%3Aedge%2Fapp%3Adelete%2Cpull"), "{tokens:?}");
    });
}

#[test]
fn an_expired_token_is_replaced_before_it_is_refused() {
    run(async |executor| {
        let server = Harbor { expires_in: "0.000001", ..Harbor::new() }.start();
        let registry = registry(&server, password(), executor);
        registry.tags(&app()).await.unwrap();
        registry.tags(&app()).await.unwrap();
        assert_eq!(server.lines(), [TAGS, TOKEN, TAGS, TOKEN, TAGS]);
    });
}

#[test]
fn a_refused_token_is_renewed_at_the_remembered_realm() {
    run(async |executor| {
        let server = Harbor { uses: 1, takes_basic: false, ..Harbor::new() }.start();
        let registry = registry(&server, password(), executor);
        registry.tags(&app()).await.unwrap();
        registry.tags(&app()).await.unwrap();
        assert_eq!(server.lines(), [TAGS, TOKEN, TAGS, TAGS, TOKEN, TAGS]);
    });
}

#[test]
fn a_401_is_doubted_once_and_then_believed() {
    run(async |executor| {
        // The token, then the password it asks for, then a pause and a new token.
        let server = Harbor { frozen: 2, ..Harbor::new() }.start();
        registry(&server, password(), executor.clone()).tags(&app()).await.unwrap();
        assert_eq!(server.lines(), [TAGS, TOKEN, TAGS, TAGS, TOKEN, TAGS]);

        let server = Harbor { frozen: 100, ..Harbor::new() }.start();
        let registry = registry(&server, password(), executor);
        let error = registry.tags(&app()).await.unwrap_err();
        assert!(error.is_unauthorized() && !error.is_retryable() && !error.is_not_found());
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("UNAUTHORIZED") && text.contains("edge/app") && !text.contains("hidden"),
            "{text}"
        );
        assert_eq!(server.lines(), [TAGS, TOKEN, TAGS, TAGS, TOKEN, TAGS]);
    });
}

#[test]
fn an_anonymous_401_is_not_waited_for() {
    run(async |executor| {
        let server = Harbor { uses: 0, ..Harbor::new() }.start();
        let options = Options { login_freeze: Duration::from_secs(3600), ..quick() };
        let error = registry(&server, options, executor).tags(&app()).await.unwrap_err();
        assert!(error.is_unauthorized(), "{error}");
        assert!(server.seen()[1].header("authorization").is_none());
        assert_eq!(server.lines(), [TAGS, TOKEN, TAGS]);
    });
}

#[test]
fn an_empty_challenge_makes_us_ask_where_tokens_come_from() {
    run(async |executor| {
        let server = Harbor::new().start();
        let registry = registry(&server, password(), executor);
        registry.tags(&"hidden-project/x".parse().unwrap()).await.unwrap();
        let lines = server.lines();
        assert_eq!(lines[1], "GET /v2/");
        assert!(lines[2].contains("scope=repository%3Ahidden-project%2Fx%3Apull"), "{lines:?}");
        assert_eq!(lines.len(), 4);
    });
}

#[test]
fn a_registry_with_passwords_only_gets_the_password() {
    run(async |executor| {
        let refusals = Arc::new(Mutex::new(0));
        let left = refusals.clone();
        let server = Script::start(move |seen| {
            let mut left = left.lock().unwrap();
            if seen.header("authorization") == Some(BASIC) && *left == 0 {
                return reply("200 OK", "", r#"{"tags":null}"#);
            }
            *left -= i32::from(seen.header("authorization").is_some());
            reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "")
        });
        let registry = registry(&server, password(), executor);
        registry.tags(&app()).await.unwrap();
        registry.check().await.unwrap();
        *refusals.lock().unwrap() = 1;
        registry.check().await.unwrap();
        assert_eq!(server.lines(), [TAGS, TAGS, "GET /v2/", "GET /v2/", "GET /v2/"]);
    });
}

#[test]
fn credentials_do_not_go_to_a_plain_realm_elsewhere() {
    run(async |executor| {
        let server = Script::start(|_| {
            reply("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"http://evil.example/token\"\r\n", "")
        });
        let error = registry(&server, password(), executor).tags(&app()).await.unwrap_err();
        assert!(matches!(error, Error::Realm { .. }), "{error}");
        assert_eq!(server.seen().len(), 1);
    });
}

#[test]
fn a_check_tests_the_password_and_not_an_old_token() {
    run(async |executor| {
        let server = Harbor::new().start();
        let registry = registry(&server, password(), executor);
        registry.tags(&app()).await.unwrap();
        registry.check().await.unwrap();
        assert_eq!(server.lines()[3..], ["GET /service/token?service=harbor-registry", "GET /v2/"]);
    });
}

#[test]
fn a_scope_that_the_registry_names_is_asked_for() {
    run(async |executor| {
        let port = Arc::new(OnceLock::new());
        let known = port.clone();
        let server = Script::start(move |seen| {
            if seen.target.starts_with("/token") {
                let wide = seen.target.contains("mirror");
                return reply(
                    "200 OK",
                    "",
                    if wide { r#"{"token":"wide"}"# } else { r#"{"token":"narrow"}"# },
                );
            }
            let scope = match seen.header("authorization") {
                Some("Bearer wide") => return reply("200 OK", "", r#"{"tags":[]}"#),
                Some(_) => ",error=\"insufficient_scope\",scope=\"repository:mirror/app:pull\"",
                None => "",
            };
            let realm = format!("Bearer realm=http://127.0.0.1:{}/token{scope}", known.get().unwrap());
            reply("401 Unauthorized", &format!("WWW-Authenticate: {realm}\r\n"), "")
        });
        port.set(server.port).unwrap();
        registry(&server, quick(), executor).tags(&app()).await.unwrap();
        assert_eq!(server.seen().len(), 5);
    });
}

#[test]
fn an_identity_token_is_posted() {
    run(async |executor| {
        let port = Arc::new(OnceLock::new());
        let known = port.clone();
        let server = Script::start(move |seen| match (seen.method.as_str(), seen.header("authorization")) {
            ("POST", _) => reply("200 OK", "", r#"{"access_token":"a1"}"#),
            (_, Some("Bearer a1")) => reply("200 OK", "", r#"{"tags":[]}"#),
            _ => {
                let port = known.get().unwrap();
                let challenge =
                    format!("Bearer realm=\"http://127.0.0.1:{port}/oauth2/token\",service=\"s p\"");
                reply("401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), "")
            }
        });
        port.set(server.port).unwrap();
        let credentials = Credentials::IdentityToken("refresh&me".into());
        registry(&server, Options { credentials, ..quick() }, executor).tags(&app()).await.unwrap();
        let form = String::from_utf8(server.seen()[1].body.clone()).unwrap();
        assert_eq!(
            form,
            "grant_type=refresh_token&refresh_token=refresh%26me&client_id=satellite&service=s+p&scope=repository%3Aedge%2Fapp%3Apull"
        );
        assert!(server.seen()[1].header("authorization").is_none());
    });
}

#[test]
fn a_token_service_in_trouble_is_tried_again_and_never_quoted_with_our_secret() {
    run(async |executor| {
        let port = Arc::new(OnceLock::new());
        let known = port.clone();
        let server = Script::start(move |seen| {
            if seen.target.starts_with("/token") {
                return reply("503 Unavailable", "Content-Type: text/plain\r\n", "hidden is the password");
            }
            let realm =
                format!("WWW-Authenticate: Bearer realm=http://127.0.0.1:{}/token\r\n", known.get().unwrap());
            reply("401 Unauthorized", &realm, "")
        });
        port.set(server.port).unwrap();
        let error = registry(&server, password(), executor).check().await.unwrap_err();
        assert!(matches!(error, Error::Token { status: Some(503), .. }), "{error}");
        assert!(error.is_retryable() && !error.is_unauthorized() && !error.to_string().contains("hidden"));
        let asked = server.lines().iter().filter(|l| l.starts_with("GET /token")).count();
        assert_eq!(asked, 4);
    });
}
