//! Every route with every kind of caller.

use crate::routes::{Route, Who, all};
use crate::worlds::{World, both, both_with};
use satellite_tests::ground_control::Api;
use satellite_tests::http::Response;
use std::collections::BTreeSet;
use std::fmt::Write as _;

fn call(api: &Api, route: &Route) -> Response {
    if route.body.is_null() {
        api.call(route.method, &route.target())
    } else {
        api.send(route.method, &route.target(), &route.body)
    }
}

/// The statuses that a route gives somebody who is refused; none for those it lets in.
fn refusal(who: Who, caller: &str) -> Option<u16> {
    match (who, caller) {
        (Who::Public, _) | (Who::User, "admin" | "system_admin") | (Who::SystemAdmin, "system_admin") => None,
        (Who::Satellite, "satellite") => None,
        (Who::SystemAdmin, "admin") => Some(403),
        _ => Some(401),
    }
}

fn matrix(world: &World) {
    let system = world.server.admin();
    system.config("c1");
    let robot = system.enrol("sat1", &[], "c1");
    let ended = system.user("ended", "Opspassw0rd");
    ended.call("POST", "/api/logout").expect(204);
    let ops = system.user("ops", "Opspassw0rd");
    let mut wrong = String::new();
    for route in all() {
        // A session that is logged out is of no use to the next route.
        let ends = route.path == "/api/logout";
        let callers = [
            ("anonymous", world.server.anonymous()),
            ("nonsense", system.with("Bearer AAAA")),
            ("half a header", system.with("Bearer")),
            ("no Base64", system.with("Basic ***")),
            ("an ended session", ended.clone()),
            ("satellite", system.robot(&robot)),
            ("admin", if ends { system.login("ops", "Opspassw0rd") } else { ops.clone() }),
            ("system_admin", if ends { world.server.admin() } else { system.clone() }),
        ];
        for (caller, api) in callers {
            let answer = call(&api, &route);
            let right = match refusal(route.who, caller) {
                Some(status) => answer.status == status && is_error(&answer),
                // Whatever it says of a thing that is not there, it is no refusal and no failure; but there is no SPIRE.
                None => match answer.status {
                    401 => may_say_401(&route),
                    503 => spire(&route),
                    status => status != 403 && status < 500,
                },
            };
            if !right {
                let _ = writeln!(
                    wrong,
                    "{} {} as {caller}: {} {}",
                    route.method,
                    route.path,
                    answer.status,
                    answer.text()
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{wrong}", world.name);
}

fn spire(route: &Route) -> bool {
    matches!(route.path, "/api/spire/agents" | "/api/satellites/register")
}

/// Logins, changes of passwords and signatures of devices are answered by 401 where they are wrong; logging out needs a
/// session.
fn may_say_401(route: &Route) -> bool {
    matches!(route.path, "/login" | "/api/users/password" | "/api/logout" | "/satellites/enroll")
}

fn is_error(answer: &Response) -> bool {
    let json = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap_or_default();
    json["message"].is_string() && json["code"] == answer.status || json["error"].is_string()
}

#[test]
fn every_route_lets_in_whom_it_should_and_nobody_else() {
    // Robots are no users: their many logins as such are failures, and would be slowed down.
    both_with(
        |setup| setup.env("LOGIN_FAILURES_PER_MINUTE", "100000").env("LOCKOUT_AFTER", "100000"),
        matrix,
    );
}

#[test]
fn the_routes_that_are_tested_are_those_that_are_served() {
    both(|world| {
        let document = world.server.admin().read("/openapi.json");
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
        let served: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                let methods = methods
                    .filter(|method| ["get", "post", "put", "patch", "delete"].contains(&method.as_str()));
                methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
            })
            .collect();
        let tested: BTreeSet<(String, String)> =
            all().iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
        let (more, fewer): (Vec<_>, Vec<_>) =
            (served.difference(&tested).collect(), tested.difference(&served).collect());
        assert!(
            more.is_empty() && fewer.is_empty(),
            "served but not tested: {more:?}; tested but not served: {fewer:?}"
        );
    });
}

#[test]
fn other_methods_are_refused_and_other_paths_are_unknown() {
    both(|world| {
        let admin = world.server.admin();
        for route in all() {
            let answer = admin.call("TRACE", &route.target());
            assert_eq!(answer.status, 405, "TRACE {}: {}", route.path, answer.text());
            let beyond = admin.get(&format!("{}/beyond/that", route.target()));
            assert_eq!(beyond.status, 404, "beyond {}: {}", route.path, beyond.text());
        }
        for path in
            ["/", "/api", "/api/", "/api/nope", "/satellites", "/%2e%2e/%2e%2e/etc/passwd", "/api/users/"]
        {
            let answer = admin.get(path);
            assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        }
    });
}
