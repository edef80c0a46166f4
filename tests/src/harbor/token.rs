//! The token service: never refuses where a scope is asked for, and grants all that the account may do there.

use super::login::Who;
use super::message::{Reply, Request};
use super::rights::may;
use super::state::State;
use crate::oci;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// How long after its end a token is still good.
const LEEWAY: i64 = 60;

/// What a token says.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    /// Repositories and actions.
    pub(super) access: Vec<(String, Vec<String>)>,
}

pub(super) fn answer(state: &mut State, who: &Who, request: &Request) -> Reply {
    if request.method != "GET" {
        return Reply::text(405, "Method Not Allowed\n").header("X-Content-Type-Options", "nosniff");
    }
    let service = request.query("service").unwrap_or_default();
    if service != "harbor-registry" {
        return Reply::text(400, &format!("Unable to handle service: {service}"));
    }
    let scopes: Vec<&str> = request
        .query
        .iter()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' '))
        .filter(|scope| !scope.is_empty())
        .collect();
    if scopes.is_empty() && matches!(who, Who::Anonymous) {
        return Reply::empty(401);
    }
    let access: Vec<Value> = scopes.iter().map(|scope| granted(state, who, scope)).collect();
    let access = if scopes.is_empty() { Value::Null } else { access.into() };
    let (now, life) = (state.clock.now(), state.config.token_minutes * 60);
    let mut claims = json!({
        "iss": "harbor-token-issuer", "aud": "harbor-registry", "exp": now + life, "nbf": now, "iat": now,
        "jti": super::login::random(16), "access": access,
    });
    match who {
        Who::User(name) => claims["sub"] = name.as_str().into(),
        Who::Robot(id) => claims["sub"] = state.robots[id].login(state).into(),
        _ => {}
    }
    let issued: String = state.clock.stamp().split('.').next().unwrap_or_default().into();
    Reply::json_utf8(&json!({
        "token": sign(state, &claims), "access_token": "", "expires_in": life, "issued_at": format!("{issued}Z"),
    }))
}

fn granted(state: &State, who: &Who, scope: &str) -> Value {
    let mut parts = scope.splitn(2, ':');
    let kind = parts.next().unwrap_or_default();
    let (name, _) = parts.next().and_then(|rest| rest.rsplit_once(':')).unwrap_or_default();
    let actions: Vec<&str> = match kind {
        "repository" => {
            let project = name.split_once('/').and_then(|(project, _)| state.project_named(project));
            let all = ["pull", "push", "delete"].into_iter();
            all.filter(|a| project.is_some_and(|p| may(state, who, Some(p.id), "repository", a))).collect()
        }
        "registry" if name == "catalog" && may(state, who, None, "catalog", "read") => vec!["*"],
        _ => Vec::new(),
    };
    json!({"type": kind, "name": name, "actions": actions})
}

fn sign(state: &State, claims: &Value) -> String {
    let header = json!({"typ": "JWT", "alg": "HS256"});
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let seal = seal(state, &text);
    format!("{text}.{seal}")
}

fn seal(state: &State, text: &str) -> String {
    oci::sha256(format!("{}{text}", state.key).as_bytes()).replace("sha256:", "")
}

/// What a token says, if it is ours and not too old.
pub(super) fn verify(state: &State, token: &str) -> Option<Claims> {
    let (text, given) = token.rsplit_once('.')?;
    if seal(state, text) != given {
        return None;
    }
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(1)?).ok()?).ok()?;
    if claims["exp"].as_i64()? + LEEWAY < state.clock.now() {
        return None;
    }
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let entries = claims["access"].as_array().into_iter().flatten();
    let access = entries
        .filter(|entry| entry["type"] == "repository")
        .map(|entry| (entry["name"].as_str().unwrap_or_default().to_owned(), texts(&entry["actions"])))
        .collect();
    Some(Claims { access })
}
