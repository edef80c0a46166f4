//! What happened at the recorded Harbor between recorded calls.

use crate::player::Player;
use satellite_tests::harbor::{Fault, Part};
use satellite_tests::http::Client;
use serde_json::{Value, json};
use std::time::Duration;

/// A robot that may do these in each project.
fn robot(name: &str, level: &str, projects: &[&str], actions: &[&str]) -> Value {
    let access: Vec<Value> = actions.iter().map(|a| json!({"resource": "repository", "action": a})).collect();
    let permissions: Vec<Value> =
        projects.iter().map(|p| json!({"kind": "project", "namespace": p, "access": access})).collect();
    json!({"name": name, "level": level, "duration": 1, "permissions": permissions})
}

impl Player {
    fn make_robot(&mut self, id: u64, recorded_secret: &str, body: &Value) {
        self.harbor.set_next_robot(id);
        let made = self.call("POST", "/api/v2.0/robots", body).json();
        self.known.insert(recorded_secret.into(), made["secret"].as_str().unwrap().into());
    }

    fn configure(&self, body: &Value) {
        self.call("PUT", "/api/v2.0/configurations", body);
    }

    /// A token of one minute.
    fn short_token(&mut self, name: &'static str) {
        self.configure(&json!({"token_expiration": 1}));
        let token = self.token(&self.robot("robot$sat-01"), "repository:edge/app:pull");
        self.kept.insert(name, token);
        self.configure(&json!({"token_expiration": 30}));
    }
}

/// Before the record of that number.
pub(crate) fn before(player: &mut Player, n: u64) {
    let oci = "application/vnd.oci.image.manifest.v1+json";
    match n {
        139 => player.make_robot(27, "", &robot("gone", "system", &["edge"], &["pull"])),
        200 => {
            // The config, whose bytes are in record 193.
            let config = json!({"architecture": "arm64", "os": "linux", "created": "2026-01-01T00:00:00Z",
                "config": {"Cmd": ["/hello"], "Labels": {"a": "b"}}, "rootfs": {"type": "layers", "diff_ids": []}});
            let made = player.push_blob(&player.admin(), "edge/app", config.to_string().as_bytes());
            let recorded = "sha256:e18819cb03a9db792b729bfb9b405fc6b1bfc98c177eeb0c184278b1a2fca0eb";
            player.known.insert(recorded.into(), made);
        }
        254 => {
            let body = robot("tmp", "system", &["edge"], &["pull"]);
            player.make_robot(28, "RobotSecretTmp000000000000000000", &body);
            let token = player.token(&player.robot("robot$tmp"), "repository:edge/app:pull");
            player.kept.insert("tmp", token);
        }
        255 => player.harbor.expire_robot(28),
        317 => {
            let manifest = json!({"schemaVersion": 2, "mediaType": oci,
                "artifactType": "application/vnd.example.state.v1+json",
                "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
                "layers": [{"mediaType": "application/json", "size": 7,
                    "digest": "sha256:afbf9d0f3560b0fd7795e81c42a0a79ee6b6fc67e064f77826aee642cad28d91"}]});
            player.push_content("edge/state", &manifest);
            let put = manifest.to_string();
            player.admin().put("/v2/edge/state/manifests/latest", oci, put.as_bytes()).expect(201);
        }
        347 => {
            let made = player.push_blob(&player.admin(), "small/app", &[b'a'; 800]);
            let recorded = "sha256:b9749f157163b4bbb7faec0a55cfb88c69968a25eac4cfe13e45d6286874709a";
            player.known.insert(recorded.into(), made);
        }
        396 => player.configure(&json!({"robot_name_prefix": "robot$"})),
        398 => player.configure(&json!({"token_expiration": 30})),
        403 => player.configure(&json!({"read_only": false})),
        408 => player.make_robot(30, "", &robot("u2", "project", &["edge"], &["pull"])),
        419 => {
            // Somebody fails to log in by that name, and is still being refused when the record is played.
            let wrong = Client::new(player.harbor.address()).basic("gcuser", "wrong");
            std::thread::spawn(move || wrong.get("/api/v2.0/users/current"));
            satellite_tests::wait::until(Duration::from_secs(5), "the wrong login", || {
                player.harbor.is_frozen("gcuser").then_some(())
            });
        }
        420 => {
            player.short_token("soon");
            player.harbor.advance(Duration::from_secs(70));
        }
        422 => {
            let project = player.harbor.project("passing", false);
            player.make_robot(31, "", &robot("ghost", "system", &["edge", "passing"], &["pull"]));
            player.make_robot(32, "", &robot("lone", "system", &["passing"], &["pull"]));
            player.call("DELETE", &format!("/api/v2.0/projects/{project}"), &json!({}));
        }
        425 => {
            player.harbor.project("passing", false);
        }
        428 => {
            player.push_blob(&player.admin(), "edge/app", b"least");
        }
        435 => {
            player.make_robot(34, "RobotSecret-narrow", &robot("narrow", "system", &["edge"], &["pull"]));
            let token = player.token(&player.robot("robot$narrow"), "repository:edge/app:pull");
            player.kept.insert("narrow", token);
        }
        440 => {
            player.push_blob(&player.admin(), "edge/other", b"other");
        }
        441 => {
            let body = robot("satpush", "system", &["satellite"], &["pull", "push"]);
            player.make_robot(35, "RobotSecret-satpush", &body);
        }
        445 => {
            let id = "00000000-0000-4000-8000-000000000022";
            player.cut_upload(id, &[1; 100_000], &[2; 100_000]);
        }
        461 => {
            for page in 0..105 {
                let body = robot(&format!("page-{page:03}"), "system", &["edge"], &["pull"]);
                player.make_robot(36 + page, "", &body);
            }
        }
        463 => {
            let body = robot("reuse", "system", &["edge"], &["pull"]);
            player.make_robot(141, "RobotSecret-reuse", &body);
        }
        476 => {
            player.short_token("late");
            player.harbor.advance(Duration::from_secs(75));
        }
        477 => player.harbor.advance(Duration::from_secs(51)),
        480 => player.harbor.fail(Fault::Down(Part::Registry)),
        484 => {
            player.harbor.heal();
            player.harbor.fail(Fault::Down(Part::Redis));
        }
        487 => {
            player.harbor.heal();
            player.harbor.fail(Fault::Down(Part::Postgres));
        }
        494 | 497 => player.harbor.heal(),
        495 => player.harbor.fail(Fault::Down(Part::Core)),
        _ => {}
    }
}
