//! `kill -9` at every call that the server makes to Harbor: just before it is done, and just after, before its answer.
//! After each: everything converges, nothing that was acknowledged is lost, and no robot is left over.
//!
//! `SATELLITE_KILLS=N` bounds how often each database is killed.

use super::facts::Facts;
use super::scene::{Kill, Scene};
use satellite_tests::ground_control::Api;
use satellite_tests::http::{Request, Response};
use serde_json::json;
use std::io;

/// A change, which is over when this returns an answer; an error is the server's death.
type Change = fn(&Api, usize, &mut Facts) -> io::Result<()>;

fn send(api: &Api, request: &Request) -> io::Result<Response> {
    let answer = api.client().try_send(request)?;
    if !answer.whole || answer.status == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// Sends a change; forgets what was known of what it touches until it is acknowledged.
fn change(
    api: &Api,
    request: &Request,
    facts: &mut Facts,
    forget: impl FnOnce(&mut Facts),
    learn: impl FnOnce(&mut Facts),
) -> io::Result<()> {
    forget(facts);
    let answer = send(api, request)?;
    // Killed after its commit, a removal was done already.
    let again = answer.status == 400 && answer.text().contains("not in the group");
    assert!(
        again || answer.status < 300,
        "{} {}: {} {}",
        request.method,
        request.target,
        answer.status,
        answer.text()
    );
    learn(facts);
    Ok(())
}

fn make_group(api: &Api, n: usize, facts: &mut Facts) -> io::Result<()> {
    let (name, project) = (format!("g{n}"), "library".to_owned());
    let body = json!({"group": name, "artifacts": [{"repository": format!("{project}/web"), "tag": ["v1"], "type": "docker", "digest": ""}]});
    let request = api.json("POST", "/api/groups/sync", &body);
    let known = name.clone();
    change(
        api,
        &request,
        facts,
        |facts| {
            facts.groups.remove(&known);
        },
        |facts| {
            facts.groups.insert(name, Some(project));
        },
    )
}

fn register(api: &Api, n: usize, facts: &mut Facts) -> io::Result<()> {
    let name = format!("s{n}");
    let body = json!({"name": name, "groups": ["one", "two"], "config_name": "c1"});
    let request = api.json("POST", "/api/satellites", &body);
    change(
        api,
        &request,
        facts,
        |_| {},
        |facts| {
            facts.satellites.insert(name.clone(), true);
            for group in ["one", "two"] {
                facts.members.insert((name.clone(), group.into()), true);
            }
            facts.configs.insert(name, "c1".into());
        },
    )
}

fn leave_a_group(api: &Api, _: usize, facts: &mut Facts) -> io::Result<()> {
    let request = api.json("DELETE", "/api/groups/satellite", &json!({"satellite": "fixed", "group": "two"}));
    let key = ("fixed".to_owned(), "two".to_owned());
    change(
        api,
        &request,
        facts,
        |facts| {
            facts.members.remove(&key);
        },
        |facts| {
            facts.members.insert(("fixed".into(), "two".into()), false);
        },
    )
}

fn join_a_group(api: &Api, _: usize, facts: &mut Facts) -> io::Result<()> {
    let request = api.json("POST", "/api/groups/satellite", &json!({"satellite": "fixed", "group": "two"}));
    let key = ("fixed".to_owned(), "two".to_owned());
    change(
        api,
        &request,
        facts,
        |facts| {
            facts.members.remove(&key);
        },
        |facts| {
            facts.members.insert(("fixed".into(), "two".into()), true);
        },
    )
}

fn move_a_group(api: &Api, n: usize, facts: &mut Facts) -> io::Result<()> {
    let project = if n.is_multiple_of(2) { "library" } else { "other" };
    let body = json!({"group": "one", "artifacts": [{"repository": format!("{project}/web"), "tag": [format!("v{n}")], "type": "docker", "digest": ""}]});
    let request = api.json("POST", "/api/groups/sync", &body);
    change(
        api,
        &request,
        facts,
        |facts| {
            facts.groups.remove("one");
        },
        |facts| {
            facts.groups.insert("one".into(), Some(project.into()));
        },
    )
}

fn exchange(api: &Api, n: usize, facts: &mut Facts) -> io::Result<()> {
    let name = format!("x{n}");
    let body = json!({"name": name, "groups": ["one"], "config_name": "c1"});
    let answer = send(api, &api.json("POST", "/api/satellites", &body))?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    facts.satellites.insert(name.clone(), true);
    facts.members.insert((name, "one".into()), true);
    let token = answer.json()["token"].as_str().expect("a token").to_owned();
    let answer = send(api, &api.request("GET", &format!("/satellites/ztr/{token}")))?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Ok(())
}

/// Registers the satellite that [`delete`] removes.
fn register_one_to_delete(api: &Api, n: usize, facts: &mut Facts) -> io::Result<()> {
    let name = format!("d{n}");
    api.register(&name, &["one"], "c1");
    facts.satellites.insert(name, true);
    Ok(())
}

fn delete(api: &Api, n: usize, facts: &mut Facts) -> io::Result<()> {
    let name = format!("d{n}");
    let request = api.request("DELETE", &format!("/api/satellites/{name}")).header("Content-Length", "0");
    let known = name.clone();
    change(
        api,
        &request,
        facts,
        |facts| {
            facts.satellites.remove(&known);
        },
        |facts| {
            facts.satellites.insert(name, false);
        },
    )
}

fn nothing(_: &Api, _: usize, _: &mut Facts) -> io::Result<()> {
    Ok(())
}

/// What is done, what comes before it unharmed, and itself.
const CHANGES: &[(&str, Change, Change)] = &[
    ("a group is made", nothing, make_group),
    ("a satellite is registered", nothing, register),
    ("a satellite leaves a group", join_a_group, leave_a_group),
    ("a satellite joins a group", leave_a_group, join_a_group),
    ("a group moves to another project", nothing, move_a_group),
    ("a token is exchanged", nothing, exchange),
    ("a satellite is deleted", register_one_to_delete, delete),
];

fn kills() -> usize {
    std::env::var("SATELLITE_KILLS").ok().and_then(|value| value.parse().ok()).unwrap_or(14)
}

fn storm(mut scene: Scene) {
    let mut facts = Facts::default();
    let api = scene.admin();
    api.config("c1");
    api.group("one", &[("library/web", "v1", "")]);
    api.group("two", &[("other/app", "v1", "")]);
    api.register("fixed", &["one", "two"], "c1");
    facts.satellites.insert("fixed".into(), true);
    facts.configs.insert("fixed".into(), "c1".into());
    scene.converges(&facts);
    let (mut n, mut killed, begun) = (0, 0, std::time::Instant::now());
    // All changes are killed at their first call, then at their second, and so on: a bound on the kills cuts depth.
    let mut open: Vec<_> =
        CHANGES.iter().flat_map(|change| [Kill::Before, Kill::After].map(|kill| (change, kill))).collect();
    for call in 1.. {
        open.retain(|((what, prepare, change), kill)| {
            if killed >= kills() {
                return false;
            }
            n += 1;
            prepare(&scene.admin(), n, &mut facts).expect("a server that nobody kills");
            scene.converges(&facts);
            scene.kill_at(call, *kill);
            let done = change(&scene.admin(), n, &mut facts);
            // Without its death the change made fewer calls than that, or makes them afterwards by itself.
            if !scene.died(done.is_err(), &facts) {
                assert!(
                    done.is_ok(),
                    "{}: {what}: the server neither lives nor was killed: {done:?}",
                    scene.name
                );
                return false;
            }
            killed += 1;
            scene.restart();
            scene.converges(&facts);
            true
        });
        if open.is_empty() {
            break;
        }
    }
    eprintln!("{}: {killed} kills in {:.0?}", scene.name, begun.elapsed());
    assert!(killed >= kills().min(14), "{}: only {killed} kills", scene.name);
    let last = scene.admin();
    for name in last.read("/api/satellites").as_array().unwrap() {
        last.delete(&format!("/api/satellites/{}", name["Name"].as_str().unwrap())).expect(200);
    }
    scene.no_robots();
}

#[test]
fn on_sqlite_a_server_killed_at_any_of_its_calls_to_harbor_converges_and_leaks_no_robot() {
    Scene::sqlite().into_iter().for_each(storm);
}

#[test]
fn on_postgresql_a_server_killed_at_any_of_its_calls_to_harbor_converges_and_leaks_no_robot() {
    Scene::postgres().into_iter().for_each(storm);
}
