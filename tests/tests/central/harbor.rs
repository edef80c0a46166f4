//! Harbor.

use crate::{STATE, failure, publishes, run, want};
use ground_control::central::{Central, Harbor, HarborSettings};
use satellite_core::fleet::artifact::unpack;
use satellite_core::net::client::SurfClient;
use satellite_core::remote::{Credentials, Fetched, Options, Registry, Secret};
use satellite_tests::harbor as standin;
use std::time::Duration;

const DAY: i64 = 86_400;

pub(crate) fn settings(harbor: &standin::Harbor) -> HarborSettings {
    let password = Secret::new(harbor.password());
    HarborSettings {
        timeout: Duration::from_secs(5),
        // Longer than the stand-in's, as the real one is longer than Harbor's.
        login_freeze: Duration::from_millis(300),
        ..HarborSettings::new(harbor.url(), standin::Harbor::ADMIN, password)
    }
}

pub(crate) fn central(harbor: &standin::Harbor, client: SurfClient) -> Harbor {
    Harbor::new(settings(harbor), client).unwrap()
}

pub(crate) fn pulls(projects: &[&str]) -> Vec<String> {
    projects.iter().map(|p| format!("{p}:repository:pull")).collect()
}

#[test]
fn states_are_published_replaced_and_removed_and_leave_nothing_behind() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let central = central(&harbor, client);
        publishes(&central).await;
        let left: Vec<_> = harbor.artifacts().into_iter().map(|a| (a.repository, a.tags)).collect();
        let tags = ["1003", "latest"].map(String::from).to_vec();
        assert_eq!(left, [("satellite/config-state/c1/state".to_string(), tags)]);
        // What satellites read is what was published.
        central.publish(STATE, b"{\"states\":[]}", 7).await.unwrap();
        let manifest = harbor.manifest(STATE, "latest").unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layer = harbor.blob(manifest["layers"][0]["digest"].as_str().unwrap()).unwrap();
        assert_eq!(unpack(&layer).unwrap(), b"{\"states\":[]}");
        assert!(harbor.calls().iter().all(|call| call.status != 403), "no cookie was ever sent back");
    });
}

#[test]
fn passwords_are_hashed_as_rarely_as_can_be() {
    let harbor = standin::Harbor::start();
    harbor.project("satellite", false);
    run(async |client| {
        let central = central(&harbor, client);
        let hashed = || harbor.calls().iter().filter(|call| call.user == standin::Harbor::ADMIN).count();
        let names: Vec<String> = (0..20).map(|n| format!("satellite/group-state/g{n}/state")).collect();
        let all = smol::Executor::new();
        let tasks: Vec<_> = names.iter().map(|name| all.spawn(central.publish(name, b"1", 1))).collect();
        all.run(async {
            for task in tasks {
                task.await.unwrap();
            }
        })
        .await;
        assert_eq!(hashed(), 1, "one token, for many at once");
        for n in 2..20 {
            let repository = format!("satellite/satellite-state/sat{n}/state");
            central.publish(&repository, b"1", n).await.unwrap();
            central.publish(STATE, n.to_string().as_bytes(), n).await.unwrap();
            central.resolve(&repository, "latest").await.unwrap();
        }
        assert_eq!(hashed(), 1, "for everything");
        assert_eq!(harbor.artifacts().len(), 20 + 18);
        let made = central.ensure_robot(&want("sat1", &["satellite"])).await.unwrap();
        assert_eq!(hashed(), 2, "a new robot is one call");
        central.rotate_robot(&made.id).await.unwrap();
        assert_eq!(hashed(), 4, "a rotation looks and does");
        central.unpublish(STATE).await.unwrap();
        assert_eq!(hashed(), 5);
        // Tokens end, and the next one is got.
        harbor.advance(Duration::from_secs(2000));
        central.publish(STATE, b"1", 30).await.unwrap();
        assert!(hashed() <= 7, "{}", hashed());
    });
}

#[test]
fn states_of_one_second_do_not_displace_each_other() {
    let harbor = standin::Harbor::start();
    harbor.project("satellite", false);
    run(async |client| {
        let central = central(&harbor, client);
        for n in 0..5 {
            central.publish(STATE, n.to_string().as_bytes(), 100).await.unwrap();
        }
        // Those with a later tag are not old yet; with the next second they are.
        assert!(harbor.artifacts().iter().all(|artifact| !artifact.tags.is_empty()));
        central.publish(STATE, b"last", 200).await.unwrap();
        let artifacts = harbor.artifacts();
        assert_eq!(artifacts.len(), 1);
        assert_eq!(artifacts[0].tags, ["200", "latest"]);
    });
}

#[test]
fn immutable_tags_are_looked_at_before_they_are_pushed() {
    let harbor = standin::Harbor::start();
    harbor.project("satellite", false);
    let rule = |pattern: &str| {
        let body = serde_json::json!({"action": "immutable", "template": "immutable_template",
            "tag_selectors": [{"kind": "doublestar", "decoration": "matches", "pattern": pattern}],
            "scope_selectors": {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": "**"}]}});
        let post =
            satellite_tests::http::Request::new("POST", "/api/v2.0/projects/satellite/immutabletagrules");
        let post = post.header("Content-Type", "application/json").bytes(body.to_string());
        harbor.client().send(&post).expect(201);
    };
    run(async |client| {
        let central = central(&harbor, client);
        // The tags of times are held: all is published, and what was stays.
        rule("1*");
        central.publish(STATE, b"1", 100).await.unwrap();
        central.publish(STATE, b"1", 101).await.unwrap();
        central.publish(STATE, b"2", 102).await.unwrap();
        assert_eq!(harbor.artifacts().len(), 2);
        assert_eq!(failure(central.unpublish(STATE).await), ("immutable", false));
        rule("latest");
        central.publish(STATE, b"2", 103).await.unwrap();
        assert_eq!(failure(central.publish(STATE, b"3", 104).await), ("immutable", false));
    });
}

#[test]
fn quotas_and_read_only_mode_are_told_apart() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let central = central(&harbor, client);
        let project = satellite_tests::http::Request::new("POST", "/api/v2.0/projects")
            .header("Content-Type", "application/json")
            .bytes("{\"project_name\":\"satellite\",\"storage_limit\":2000}");
        harbor.client().send(&project).expect(201);
        assert_eq!(
            failure(central.publish(STATE, &satellite_tests::oci::noise(4000, 1), 1).await),
            ("quota", false)
        );
        let configure = |body: &[u8]| {
            harbor.client().put("/api/v2.0/configurations", "application/json", body).expect(200);
        };
        configure(b"{\"read_only\":true}");
        assert_eq!(failure(central.ensure_robot(&want("sat1", &["satellite"])).await), ("read_only", true));
        assert_eq!(failure(central.publish(STATE, b"1", 1).await), ("read_only", true));
        configure(b"{\"read_only\":false}");
        central.publish(STATE, b"1", 1).await.unwrap();
    });
}

#[test]
fn what_the_reference_left_in_years_goes_bit_by_bit() {
    let harbor = standin::Harbor::start();
    harbor.project("satellite", false);
    run(async |client| {
        let central = central(&harbor, client);
        for n in 0..150 {
            // As it pushes: nothing is removed.
            let image = satellite_tests::image::Image::new().noise(10, n).build();
            image.push(&harbor.client(), STATE, &format!("{}", 1000 + n));
        }
        for n in 0..3 {
            central.publish(STATE, n.to_string().as_bytes(), 9000 + n).await.unwrap();
        }
        assert_eq!(harbor.artifacts().len(), 1);
    });
}

#[test]
fn old_states_go_and_what_others_tagged_stays() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let central = central(&harbor, client);
        central.ensure_project("satellite", false).await.unwrap();
        central.publish(STATE, b"1", 10).await.unwrap();
        let tag = |digest: &str, name: &str| {
            let path = format!(
                "/api/v2.0/projects/satellite/repositories/group-state%252Fg1%252Fstate/artifacts/{digest}/tags"
            );
            let request = satellite_tests::http::Request::new("POST", &path)
                .header("Content-Type", "application/json")
                .bytes(format!("{{\"name\":\"{name}\"}}"));
            harbor.client().send(&request).expect(201);
        };
        tag(&harbor.artifacts()[0].digest, "keep");
        central.publish(STATE, b"2", 20).await.unwrap();
        // Somebody else publishes at the same time, and has not come to `latest` yet.
        let two = central.resolve(STATE, "latest").await.unwrap().unwrap();
        tag(&two, "99");
        central.publish(STATE, b"3", 30).await.unwrap();
        let mut tags: Vec<Vec<String>> = harbor.artifacts().into_iter().map(|a| a.tags).collect();
        tags.sort();
        assert_eq!(tags, [vec!["10", "keep"], vec!["20", "99"], vec!["30", "latest"]]);
    });
}

#[test]
fn a_robot_may_pull_and_no_more_and_is_made_once() {
    let harbor = standin::Harbor::start();
    harbor.project("edge", false);
    harbor.project("satellite", false);
    run(async |client| {
        let central = central(&harbor, client);
        let made = central.ensure_robot(&want("sat1", &["edge", "satellite"])).await.unwrap();
        assert_eq!(made.login, "robot$sat1");
        let row = harbor.robots().remove(0);
        assert_eq!(row.rights, pulls(&["edge", "satellite"]));
        assert_eq!(made.secret.unwrap().expose(), row.secret);
        assert_eq!(made.expires_at, Some(row.expires_at));
        assert!((harbor.now() + 30 * DAY - row.expires_at).abs() < 5);
        // Again, with and without its id: nothing is written.
        harbor.forget_calls();
        for known_id in [Some(made.id.clone()), None, Some("99".into())] {
            let again =
                central.ensure_robot(&satellite_want(known_id, &["edge", "satellite"])).await.unwrap();
            assert_eq!((again.id.as_str(), again.secret.is_none()), (made.id.as_str(), true));
        }
        assert!(harbor.calls().iter().all(|call| call.method != "PUT"));
        assert_eq!(harbor.robots(), std::slice::from_ref(&row));
        // Other projects: the rights are replaced, the secret stays.
        central.ensure_robot(&satellite_want(Some(made.id.clone()), &["edge"])).await.unwrap();
        let changed = harbor.robots().remove(0);
        assert_eq!((changed.rights, changed.secret), (pulls(&["edge"]), row.secret));
        // The prefix is a setting, and what is asked for then is what it shows.
        harbor
            .client()
            .put("/api/v2.0/configurations", "application/json", b"{\"robot_name_prefix\":\"bot-\"}")
            .expect(200);
        let renamed = central.ensure_robot(&want("sat1", &["edge", "library"])).await.unwrap();
        assert_eq!((renamed.id, renamed.login.as_str()), (made.id.clone(), "bot-sat1"));
        let found = central.find_robot("sat1").await.unwrap().unwrap();
        assert_eq!((found.id, found.login.as_str()), (made.id.clone(), "bot-sat1"));
        assert_eq!(central.find_robot("at1").await.unwrap(), None);
        assert_eq!(central.find_robot("a--b,x=1").await.unwrap(), None);
        central.delete_robot(&made.id).await.unwrap();
        central.delete_robot(&made.id).await.unwrap();
        assert!(harbor.robots().is_empty());
        let new = central.ensure_robot(&satellite_want(Some(made.id), &["edge"])).await.unwrap();
        assert!(new.secret.is_some(), "deleted by hand, made anew");
    });
}

fn satellite_want(known_id: Option<String>, projects: &[&str]) -> ground_control::central::RobotWant {
    ground_control::central::RobotWant { known_id, ..want("sat1", projects) }
}

#[test]
fn rotation_gives_a_new_secret_and_a_full_life_from_now() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let central = central(&harbor, client);
        let made = central.ensure_robot(&want("sat1", &["library"])).await.unwrap();
        let fresh = central.rotate_robot(&made.id).await.unwrap();
        assert_eq!(fresh.expires_at, made.expires_at, "new as it is, it lives no longer");
        assert_ne!(fresh.secret, made.secret);
        for days in [25, 40] {
            // The second time it has been dead for ten days.
            harbor.advance(Duration::from_secs(days * DAY as u64));
            let rotated = central.rotate_robot(&made.id).await.unwrap();
            let row = harbor.robots().remove(0);
            assert_eq!(
                (rotated.expires_at, rotated.secret.unwrap().expose()),
                (Some(row.expires_at), row.secret.as_str())
            );
            let left = row.expires_at - harbor.now();
            assert!(left > 29 * DAY && left <= 30 * DAY, "{left}");
            assert_eq!(row.rights, pulls(&["library"]));
        }
        // Rights wanted anew late in its life lengthen it as well.
        harbor.advance(Duration::from_secs(20 * DAY as u64));
        let kept = central.ensure_robot(&want("sat1", &["library"])).await.unwrap();
        assert!(kept.expires_at.unwrap() - harbor.now() > 29 * DAY);
        assert_eq!(kept.expires_at, Some(harbor.robots()[0].expires_at));
        assert_eq!(failure(central.rotate_robot("77").await), ("not_found", false));
        assert_eq!(failure(central.rotate_robot("../1").await), ("refused", false));
    });
}

#[test]
fn robots_of_others_are_neither_taken_nor_listed() {
    let harbor = standin::Harbor::start();
    harbor.project("edge", false);
    run(async |client| {
        let ours = central(&harbor, client.clone());
        let mut other = settings(&harbor);
        other.description = "managed by another ground control".into();
        let theirs = Harbor::new(other, client).unwrap();
        let taken = theirs.ensure_robot(&want("sat1", &["edge"])).await.unwrap();
        assert_eq!(failure(ours.ensure_robot(&want("sat1", &["edge"])).await), ("conflict", false));
        assert_eq!(harbor.robots().len(), 1);
        for n in 0..205 {
            ours.ensure_robot(&want(&format!("sat-{n}"), &["edge"])).await.unwrap();
        }
        assert_eq!(ours.list_robots().await.unwrap().len(), 205);
        assert_eq!(ours.find_robot("sat1").await.unwrap(), None);
        let listed = theirs.list_robots().await.unwrap();
        assert_eq!(listed.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [taken.id]);
    });
}

#[test]
fn what_is_wrong_is_named() {
    let harbor = standin::Harbor::start();
    run(async |client| {
        let central = central(&harbor, client.clone());
        assert_eq!(failure(central.ensure_robot(&want("a--b", &["library"])).await), ("name", false));
        assert_eq!(failure(central.ensure_robot(&want("a", &[])).await), ("no_project", false));
        let error = central.ensure_robot(&want("a", &["library", "ghost"])).await.unwrap_err();
        assert_eq!((error.code(), error.is_transient()), ("no_project", false));
        assert!(error.to_string().contains("project ghost does not exist"), "{error}");
        assert!(harbor.robots().is_empty());
        let made = central.ensure_robot(&want("a", &["library"])).await.unwrap();
        let error = central.ensure_robot(&want("a", &["ghost"])).await.unwrap_err();
        assert_eq!(error.code(), "no_project");
        assert_eq!(harbor.robots()[0].rights, pulls(&["library"]), "nothing changed");
        assert_eq!(failure(central.publish("ghost/x", b"{}", 1).await), ("no_project", false));
        assert_eq!(central.resolve("ghost/x", "latest").await.unwrap(), None);
        assert!(central.project_exists("library").await.unwrap());
        assert!(!central.project_exists("ghost&x=1").await.unwrap());
        central.ensure_project("made", true).await.unwrap();
        central.ensure_project("made", false).await.unwrap();
        assert_eq!(failure(central.ensure_project("Bad", false).await), ("refused", false));
        central.delete_robot(&made.id).await.unwrap();
        for bad in
            ["harbor.example", "ftp://harbor", "https://harbor/path", "http://u:hidden@harbor", "https://"]
        {
            let settings = HarborSettings::new(bad, "admin", Secret::new("hidden"));
            let error = Harbor::new(settings, client.clone()).err().unwrap();
            assert_eq!(error.code(), "config");
            assert!(!error.to_string().contains("hidden"));
        }
    });
}

#[test]
fn a_robot_whose_projects_are_gone_is_mended_by_new_rights() {
    let harbor = standin::Harbor::start();
    let project = harbor.project("passing", false);
    run(async |client| {
        let central = central(&harbor, client);
        let made = central.ensure_robot(&want("sat1", &["passing"])).await.unwrap();
        harbor.client().delete(&format!("/api/v2.0/projects/{project}")).expect(200);
        assert!(harbor.robots()[0].rights.is_empty());
        harbor.advance(Duration::from_secs(29 * DAY as u64));
        // It cannot be made to live longer like this, but gets its secret.
        let rotated = central.rotate_robot(&made.id).await.unwrap();
        assert_eq!(rotated.secret.unwrap().expose(), harbor.robots()[0].secret);
        harbor.project("passing", false);
        let mended = central.ensure_robot(&want("sat1", &["passing"])).await.unwrap();
        assert_eq!(harbor.robots()[0].rights, pulls(&["passing"]));
        assert!(mended.expires_at.unwrap() - harbor.now() > 29 * DAY);
    });
}

#[test]
fn a_robot_reads_its_state_with_what_it_was_given_and_nothing_else() {
    let harbor = standin::Harbor::start();
    let secret = harbor.project("secret", false);
    assert!(secret > 0);
    run(async |client| {
        let central = central(&harbor, client.clone());
        central.ensure_project("satellite", false).await.unwrap();
        let digest = central.publish(STATE, b"{\"group\":\"g1\"}", 1).await.unwrap();
        satellite_tests::image::Image::new().noise(10, 1).build().push(&harbor.client(), "secret/app", "v1");
        let robot = central.ensure_robot(&want("sat1", &["satellite"])).await.unwrap();
        let credentials =
            Credentials::Password { user: robot.login.clone(), password: robot.secret.clone().unwrap() };
        let options = Options { credentials, login_freeze: Duration::from_millis(300), ..Options::default() };
        let registry = Registry::new(&harbor.host(), options, client.clone()).unwrap();
        let (state, latest) = (STATE.parse().unwrap(), "latest".parse().unwrap());
        let Fetched::Manifest { bytes, digest: found, .. } =
            registry.get_manifest(&state, &latest, None).await.unwrap()
        else {
            panic!("nothing was known before")
        };
        assert_eq!(found.as_str(), digest);
        let manifest = satellite_core::oci::Manifest::parse(bytes.to_vec(), None).unwrap();
        let mut layer = registry.open_blob(&state, &manifest.blobs[1].digest, 0).await.unwrap();
        let mut unpacked = Vec::new();
        while let Some(piece) = futures_lite::StreamExt::next(&mut layer.stream).await {
            unpacked.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(unpack(&unpacked).unwrap(), b"{\"group\":\"g1\"}");
        let other = "secret/app".parse().unwrap();
        let refused = registry.get_manifest(&other, &"v1".parse().unwrap(), None).await.unwrap_err();
        assert!(refused.is_unauthorized(), "{refused}");
        let pushed = registry.begin_upload(&state, &found).await.unwrap_err();
        assert!(pushed.is_unauthorized(), "{pushed}");
        central.delete_robot(&robot.id).await.unwrap();
        assert!(registry.check().await.unwrap_err().is_unauthorized());
    });
}
