//! What no caller should send: every route answers with an error that says what is wrong, and nothing changes.

use crate::routes::{Route, all};
use crate::worlds::{World, both};
use satellite_tests::ground_control::{Api, Robot};
use satellite_tests::http::{Body, Response};
use serde_json::{Value, json};
use std::fmt::Write as _;

const TEXTS: &[&str] = &[
    "'; DROP TABLE satellites; --",
    "\" OR 1=1 --",
    "<script>alert(1)</script>",
    "a\u{0}b",
    "\u{202e}evil",
    "../../etc/passwd",
    "a b",
    "%00",
    "$(reboot)",
    "line\nbreak",
    "ünï",
    "A",
    "-x",
    "a/b",
];

/// A server with one of everything, and what its lists say.
struct Stage<'a> {
    world: &'a World,
    admin: Api,
    robot: Robot,
}

impl<'a> Stage<'a> {
    fn new(world: &'a World) -> Self {
        let admin = world.server.admin();
        admin.user("ops", "Opspassw0rd");
        admin.config("c1");
        admin.group("g1", &[("library/web", "v1", "")]);
        let robot = admin.enrol("sat1", &["g1"], "c1");
        Self { world, admin, robot }
    }

    /// Who may call that route.
    fn caller(&self, route: &Route) -> Api {
        match route.who {
            crate::routes::Who::Satellite => self.admin.robot(&self.robot),
            _ => self.admin.clone(),
        }
    }

    /// All that the lists say but for when a satellite was last seen.
    fn lists(&self) -> Value {
        let mut all = json!({});
        for path in
            ["/api/users", "/api/groups", "/api/configs", "/api/satellites", "/api/groups/g1/satellites"]
        {
            all[path] = self.admin.read(path);
        }
        for row in all["/api/satellites"].as_array_mut().into_iter().flatten() {
            row.as_object_mut()
                .unwrap()
                .retain(|name, _| !matches!(name.as_str(), "LastSeen" | "HeartbeatInterval" | "UpdatedAt"));
        }
        all
    }
}

/// What is wrong with an answer to a request that must be refused.
fn refused(answer: &Response, statuses: &[u16]) -> Option<String> {
    let json = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let said = json["message"].as_str().or(json["error"].as_str()).is_some_and(|text| !text.is_empty());
    (!said || !statuses.contains(&answer.status)).then(|| format!("{} {}", answer.status, answer.text()))
}

fn check(world: &World, test: impl Fn(&Stage<'_>, &Route, &mut String)) {
    let stage = Stage::new(world);
    let before = stage.lists();
    let mut wrong = String::new();
    for route in all() {
        test(&stage, &route, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}:\n{wrong}", stage.world.name);
    assert_eq!(stage.lists(), before, "{}: something was changed", stage.world.name);
}

#[test]
fn bodies_that_are_no_json_are_refused_and_change_nothing() {
    both(|world| {
        check(world, |stage, route, wrong| {
            if route.body.is_null() {
                return;
            }
            let text = route.body.to_string();
            let nested = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
            let bodies: [(&str, Vec<u8>, &[u16]); 8] = [
                ("nothing", vec![], &[400]),
                ("half", text.as_bytes()[..text.len() / 2].to_vec(), &[400]),
                ("not UTF-8", [b"{\"", &[0xff, 0xfe][..], b"\": 1}"].concat(), &[400]),
                ("a list", b"[]".to_vec(), &[400]),
                ("a number", b"7".to_vec(), &[400]),
                // In a field that nobody knows, and so nobody reads.
                ("deep", nested.into_bytes(), &[200, 400, 401, 404]),
                ("a form", b"a=1&b=2".to_vec(), &[400]),
                ("large", format!("{{\"x\":\"{}\"}}", "y".repeat(40 << 20)).into_bytes(), &[413]),
            ];
            for (what, body, statuses) in bodies {
                let request = stage.caller(route).request(route.method, &route.target());
                let request = request.header("Content-Type", "application/json").bytes(body);
                let answer = stage.admin.client().send(&request);
                let fine = answer.status == 200 && statuses.contains(&200);
                if let Some(said) = refused(&answer, statuses).filter(|_| !fine) {
                    let _ = writeln!(wrong, "{} {} with {what}: {said}", route.method, route.path);
                }
            }
            // The same without end: only as much is read as is allowed.
            let piece = vec![b' '; 1 << 20];
            let request = stage.caller(route).request(route.method, &route.target());
            let request =
                request.header("Content-Type", "application/json").body(Body::Chunked(vec![piece; 40]));
            if let Some(said) = refused(&stage.admin.client().send(&request), &[413]) {
                let _ = writeln!(wrong, "{} {} without end: {said}", route.method, route.path);
            }
        });
    });
}

#[test]
fn fields_of_the_wrong_type_are_refused_by_name() {
    both(|world| {
        check(world, |stage, route, wrong| {
            let Some(fields) = route.body.as_object() else { return };
            for (name, right) in fields {
                for value in [json!(null), json!(true), json!(1.5), json!("x"), json!([1]), json!({"a": 1})] {
                    let alike = std::mem::discriminant(&value) == std::mem::discriminant(right);
                    // Null is as if it were not there, which is legal for most; a registry is ignored.
                    if alike || value.is_null() || name == "registry" {
                        continue;
                    }
                    let mut body = route.body.clone();
                    body[name] = value.clone();
                    let answer = stage.caller(route).send(route.method, &route.target(), &body);
                    if let Some(said) = refused(&answer, &[400]) {
                        let _ =
                            writeln!(wrong, "{} {} with {name} = {value}: {said}", route.method, route.path);
                    }
                }
            }
        });
    });
}

/// Text of all kinds in every text field: never a failure, and what is refused changes nothing. What is taken comes
/// back as it is.
#[test]
fn sql_and_html_in_text_fields_are_text_or_are_refused() {
    both(|world| {
        check(world, |stage, route, wrong| {
            let Some(fields) = route.body.as_object() else { return };
            for (name, right) in fields {
                if !right.is_string() {
                    continue;
                }
                // A registry is ignored, and makes a group of a body that is otherwise right.
                if name == "registry" {
                    continue;
                }
                for text in TEXTS {
                    // Users may be called so.
                    if name == "username" && ["A", "ünï"].contains(text) {
                        continue;
                    }
                    let mut body = route.body.clone();
                    body[name] = json!(text);
                    let answer = stage.caller(route).send(route.method, &route.target(), &body);
                    let fine = match answer.status {
                        200 => route.path == "/satellites/sync",
                        status => {
                            matches!(status, 400 | 401 | 404 | 409 | 503)
                                || status == 429 && route.path == "/login"
                        }
                    };
                    if !fine || answer.status >= 400 && refused(&answer, &[answer.status]).is_some() {
                        let _ = writeln!(
                            wrong,
                            "{} {} with {name} = {text:?}: {} {}",
                            route.method,
                            route.path,
                            answer.status,
                            answer.text()
                        );
                    }
                }
            }
        });
    });
}

#[test]
fn names_outside_the_grammar_are_refused_in_bodies_and_unknown_in_paths() {
    both(|world| {
        let stage = Stage::new(world);
        let before = stage.lists();
        let long = "n".repeat(256);
        let mut wrong = String::new();
        let names = TEXTS.iter().copied().chain(["", " ", ".", "..", "_a", &long]);
        for name in names {
            let bodies = [
                ("/api/users", json!({"username": name, "password": "Opspassw0rd"})),
                ("/api/groups/sync", json!({"group": name, "artifacts": []})),
                ("/api/configs", json!({"config_name": name, "config": {}})),
                ("/api/satellites", json!({"name": name, "groups": ["g1"], "config_name": "c1"})),
                ("/api/satellites", json!({"name": "new", "groups": [name], "config_name": "c1"})),
                ("/api/satellites", json!({"name": "new", "groups": ["g1"], "config_name": name})),
                ("/api/groups/satellite", json!({"satellite": name, "group": "g1"})),
                ("/api/groups/satellite", json!({"satellite": "sat1", "group": name})),
                ("/api/configs/satellite", json!({"satellite": "sat1", "config_name": name})),
            ];
            for (path, body) in bodies {
                // Users' names are freer than those that become part of a repository's path.
                if path == "/api/users" && ["A", "ünï"].contains(&name) {
                    continue;
                }
                if let Some(said) = refused(&stage.admin.post(path, &body), &[400]) {
                    let _ = writeln!(wrong, "POST {path} {body}: {said}");
                }
            }
        }
        for route in all().iter().filter(|route| route.named()) {
            for name in ["%27%3B%20DROP", "%00", "%3Cscript%3E", "a%2Fb", "%ff", "..%2f..", &long] {
                let (caller, target) = (stage.caller(route), route.filled(name));
                let answer = if route.body.is_null() {
                    caller.call(route.method, &target)
                } else {
                    caller.send(route.method, &target, &route.body)
                };
                if !matches!(answer.status, 400 | 404) {
                    let _ = writeln!(wrong, "{} {target}: {} {}", route.method, answer.status, answer.text());
                }
            }
        }
        assert!(wrong.is_empty(), "{}:\n{wrong}", world.name);
        assert_eq!(stage.lists(), before, "{}: something was changed", world.name);
    });
}

#[test]
fn what_is_wrong_inside_artifacts_and_configurations_is_named() {
    both(|world| {
        let stage = Stage::new(world);
        let before = stage.lists();
        let digest = format!("sha256:{}", "0".repeat(64));
        let mut wrong = String::new();
        let good = json!({"repository": "library/web", "tag": ["v1"], "type": "docker", "digest": digest});
        for (field, value) in [
            ("repository", json!("")),
            ("repository", json!("web")),
            ("repository", json!("Library/web")),
            ("repository", json!("library/../web")),
            ("repository", json!("library/web:v1")),
            ("repository", json!(format!("library/{}", "x".repeat(300)))),
            ("tag", json!("v1")),
            ("tag", json!(["not a tag"])),
            ("tag", json!(["x".repeat(129)])),
            ("digest", json!("sha256:xyz")),
            ("digest", json!("md5:00")),
        ] {
            let mut artifact = good.clone();
            artifact[field] = value.clone();
            let answer =
                stage.admin.post("/api/groups/sync", &json!({"group": "g1", "artifacts": [artifact]}));
            if let Some(said) = refused(&answer, &[400]) {
                let _ = writeln!(wrong, "artifact with {field} = {value}: {said}");
            }
        }
        for (field, value) in [
            ("heartbeat_interval", json!("soon")),
            ("heartbeat_interval", json!("@every 0s")),
            ("heartbeat_interval", json!("@every -5s")),
            ("heartbeat_interval", json!("*/5 * * * *")),
            ("state_replication_interval", json!("61 * * * *")),
            ("state_replication_interval", json!("* * *")),
            ("log_level", json!("loud")),
            ("ground_control_url", json!("::")),
            ("use_unsecure", json!("yes")),
        ] {
            let config = json!({"app_config": {(field): value}});
            let made = stage.admin.post("/api/configs", &json!({"config_name": "bad", "config": config}));
            let patched = stage.admin.patch("/api/configs/c1", &config);
            for (how, answer) in [("made", made), ("patched", patched)] {
                let named = answer.text().contains(field) || answer.text().contains("Invalid request body");
                if refused(&answer, &[400]).is_some() || !named {
                    let _ = writeln!(
                        wrong,
                        "config {how} with {field} = {value}: {} {}",
                        answer.status,
                        answer.text()
                    );
                }
            }
        }
        assert!(wrong.is_empty(), "{}:\n{wrong}", world.name);
        assert_eq!(stage.lists(), before, "{}: something was changed", world.name);
    });
}

#[test]
fn duplicates_unknown_things_and_what_is_in_use_have_their_statuses() {
    both(|world| {
        let stage = Stage::new(world);
        let before = stage.lists();
        let admin = &stage.admin;
        let post = |path: &str, body: Value| admin.post(path, &body).status;
        assert_eq!(post("/api/users", json!({"username": "ops", "password": "Opspassw0rd"})), 409);
        assert_eq!(post("/api/users", json!({"username": "admin", "password": "Opspassw0rd"})), 400);
        assert_eq!(post("/api/configs", json!({"config_name": "c1", "config": {}})), 409);
        assert_eq!(post("/api/satellites", json!({"name": "sat1", "groups": [], "config_name": "c1"})), 400);
        assert_eq!(
            post("/api/satellites", json!({"name": "new", "groups": ["nope"], "config_name": "c1"})),
            400
        );
        assert_eq!(post("/api/satellites", json!({"name": "new", "groups": [], "config_name": "nope"})), 400);
        assert_eq!(
            post("/api/groups/satellite", json!({"satellite": "sat1", "group": "g1"})),
            200,
            "again is fine"
        );
        for path in ["users", "groups", "configs", "satellites"] {
            assert_eq!(admin.get(&format!("/api/{path}/nope")).status, 404, "{path}");
        }
        assert_eq!(admin.delete("/api/configs/c1").status, 400, "in use");
        assert_eq!(admin.delete("/api/configs/nope").status, 404);
        assert_eq!(admin.delete("/api/groups/nope").status, 404);
        assert_eq!(admin.delete("/api/satellites/nope").status, 400);
        assert_eq!(admin.delete("/api/users/nope").status, 404);
        assert_eq!(admin.delete("/api/users/admin").status, 400);
        assert_eq!(stage.lists(), before, "{}", world.name);
    });
}

#[test]
fn the_same_name_taken_twenty_times_at_once_is_taken_once() {
    both(|world| {
        let stage = Stage::new(world);
        let bodies = [
            ("/api/users", json!({"username": "new", "password": "Opspassw0rd"}), 201, 409),
            ("/api/configs", json!({"config_name": "new", "config": {}}), 201, 409),
            ("/api/satellites", json!({"name": "new", "groups": ["g1"], "config_name": "c1"}), 200, 400),
        ];
        for (path, body, taken, refused) in bodies {
            let statuses: Vec<u16> = std::thread::scope(|scope| {
                let all: Vec<_> =
                    (0..20).map(|_| scope.spawn(|| stage.admin.post(path, &body).status)).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            let count = |status| statuses.iter().filter(|s| **s == status).count();
            assert_eq!((count(taken), count(refused)), (1, 19), "{} {path}: {statuses:?}", world.name);
        }
    });
}
