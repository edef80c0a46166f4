//! Devices that come back by their key, and what satellites say of themselves beyond the reference.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use satellite_tests::ground_control::{Api, Robot, heartbeat};
use satellite_tests::http::Response;
use serde_json::{Value, json};

use crate::worlds::both;

struct Device(Ed25519KeyPair);

impl Device {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn exchange(&self, api: &Api, token: &str) -> Robot {
        let key = BASE64_STANDARD.encode(self.0.public_key().as_ref());
        let request = api.request("GET", &format!("/satellites/ztr/{token}"));
        let request = request.header("Satellite-Device-Key", &key);
        Robot::of(&api.client().send(&request).expect(200).json())
    }

    fn answer(&self, name: &str, nonce: &str) -> Value {
        let signature = self.0.sign(format!("satellite-enroll\n{name}\n{nonce}").as_bytes());
        json!({"name": name, "nonce": nonce, "signature": BASE64_STANDARD.encode(signature.as_ref())})
    }

    fn enroll(&self, api: &Api, name: &str) -> Response {
        let nonce = nonce(api, name);
        api.post("/satellites/enroll", &self.answer(name, &nonce))
    }
}

fn nonce(api: &Api, name: &str) -> String {
    let answer = api.post("/satellites/enroll/challenge", &json!({"name": name})).expect(200);
    answer.json()["nonce"].as_str().unwrap().to_string()
}

#[test]
fn a_device_whose_account_ran_out_comes_back_by_its_key_and_nobody_else_does() {
    both(|world| {
        let (admin, anybody) = (world.server.admin(), world.server.anonymous());
        admin.config("c1");
        let token = admin.register("gate", &[], "c1");
        let (device, stranger) = (Device::new(), Device::new());
        let first = device.exchange(&anybody, &token);
        admin.sync(&first, &heartbeat("gate")).expect(200);

        stranger.enroll(&anybody, "gate").expect(401);
        device.enroll(&anybody, "absent").expect(401);
        let nonce = nonce(&anybody, "gate");
        let answer = device.answer("gate", &nonce);
        let second = Robot::of(&anybody.post("/satellites/enroll", &answer).expect(200).json());
        admin.sync(&second, &heartbeat("gate")).expect(200);
        admin.sync(&first, &heartbeat("gate")).expect(401);
        // Who listened has nothing of it.
        anybody.post("/satellites/enroll", &answer).expect(401);
        admin.sync(&second, &heartbeat("gate")).expect(200);

        // A satellite that never showed a key has no way back.
        let plain = admin.register("plain", &[], "c1");
        admin.exchange(&plain);
        device.enroll(&anybody, "plain").expect(401);

        admin.call("POST", "/api/satellites/gate/suspend").expect(200);
        device.enroll(&anybody, "gate").expect(403);
        admin.call("POST", "/api/satellites/gate/resume").expect(200);
        admin.call("POST", "/api/satellites/gate/revoke").expect(200);
        device.enroll(&anybody, "gate").expect(403);
        // A new token may be for another device: the one that was revoked stays out.
        let token = admin.call("POST", "/api/satellites/gate/token").expect(200).json();
        device.enroll(&anybody, "gate").expect(401);
        stranger.exchange(&anybody, token["token"].as_str().unwrap());
        device.enroll(&anybody, "gate").expect(401);
        stranger.enroll(&anybody, "gate").expect(200);
    });
}

#[test]
fn a_key_that_is_none_is_refused_and_costs_no_token() {
    both(|world| {
        let (admin, anybody) = (world.server.admin(), world.server.anonymous());
        admin.config("c1");
        let token = admin.register("gate", &[], "c1");
        for key in ["", "AAAA", "not base64!"] {
            let request = anybody.request("GET", &format!("/satellites/ztr/{token}"));
            let answer = anybody.client().send(&request.header("Satellite-Device-Key", key)).expect(400);
            assert!(answer.text().contains("Satellite-Device-Key"), "{}", answer.text());
        }
        Device::new().exchange(&anybody, &token);
    });
}

#[test]
fn what_is_wrong_with_a_satellite_and_what_it_did_can_be_asked_for() {
    both(|world| {
        let admin = world.server.admin();
        admin.config("c1");
        let (sick, well) = (admin.enrol("sick", &[], "c1"), admin.enrol("well", &[], "c1"));
        admin.sync(&well, &heartbeat("well")).expect(200);
        let mut body = heartbeat("sick");
        body["last_error"] = json!({"cause": "disk.blocked", "message": "needs 2 GiB, has 1 GiB <script>"});
        body["events"] = json!([
            {"seq": 1, "at": "2026-01-02T03:04:05Z", "event": "started", "image": "edge/app:v1"},
            {"seq": 2, "at": "2026-01-02T03:04:06Z", "event": "failed", "image": "edge/app:v1",
             "bytes": 5, "total": 9, "cause": "disk.blocked"}]);
        // Its answer was lost, so it says it again.
        for _ in 0..2 {
            admin.sync(&sick, &body).expect(200);
        }
        let names = |query: &str| -> Vec<String> {
            let rows = admin.read(&format!("/api/satellites?{query}"));
            rows.as_array().into_iter().flatten().map(|r| r["Name"].as_str().unwrap().into()).collect()
        };
        assert_eq!(names("cause=disk.blocked"), ["sick"]);
        assert_eq!(names("cause=disk"), ["sick"]);
        assert!(names("cause=dis").is_empty() && names("cause=%25").is_empty());
        let health = admin.read("/api/satellites/sick/health");
        assert_eq!(health["last_error"]["message"], "needs 2 GiB, has 1 GiB <script>", "{}", world.name);
        let events = admin.read("/api/satellites/sick/events");
        let seen: Vec<_> = events.as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
        assert_eq!(seen, ["failed", "started"], "{}", world.name);
        assert_eq!((&events[0]["bytes"], &events[0]["cause"]), (&json!(5), &json!("disk.blocked")));

        // It is well again, and says nothing of errors.
        admin.sync(&sick, &heartbeat("sick")).expect(200);
        assert!(admin.read("/api/satellites/sick/health")["last_error"].is_null());
        let mut bad = heartbeat("sick");
        bad["events"] = json!([{"seq": 1, "at": "yesterday"}]);
        assert!(admin.sync(&sick, &bad).expect(400).text().contains("events[0].at"));
    });
}
