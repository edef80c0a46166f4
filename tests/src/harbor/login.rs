//! Who somebody is: passwords with their freeze, bearer tokens, sessions with CSRF tokens.

use super::Shared;
use super::message::{Reply, Request};
use super::state::State;
use super::token::{self, Claims};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Whom a request comes from.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// Nobody, or somebody with wrong credentials: Harbor makes no difference.
    Anonymous,
    User(String),
    Robot(u64),
    /// What a token says, for the registry.
    Bearer(Claims),
}

/// Name and password of a request.
pub(super) fn basic(request: &Request) -> Option<(String, String)> {
    let (scheme, encoded) = request.header("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.into(), password.into()))
}

impl State {
    fn verify(&self, user: &str, password: &str) -> Who {
        if self.users.iter().any(|known| known.name == user && known.password == password) {
            return Who::User(user.into());
        }
        let now = self.clock.now();
        // By the name first: there may be ten thousand.
        let name = user.strip_prefix(&self.config.prefix).unwrap_or(user);
        let name = name.split_once('+').map_or(name, |(_, name)| name);
        let mut named = self.robots.values().filter(|robot| robot.name == name);
        let robot = named.find(|robot| robot.login(self) == user);
        match robot.filter(|robot| robot.is_alive(now) && robot.secret == password) {
            Some(robot) => Who::Robot(robot.id),
            None => Who::Anonymous,
        }
    }
}

impl Shared {
    /// A wrong password freezes its name: meanwhile the right one is refused too.
    pub(super) fn login(&self, request: &Request) -> Who {
        let Some((user, password)) = basic(request) else { return self.login_otherwise(request) };
        let who = {
            let mut state = self.state();
            if state.frozen.contains(&user) {
                return Who::Anonymous;
            }
            let who = state.verify(&user, &password);
            if matches!(who, Who::Anonymous) {
                state.frozen.insert(user.clone());
            }
            who
        };
        match &who {
            Who::Anonymous => {
                self.pause(self.options.freeze);
                self.state().frozen.remove(&user);
            }
            Who::User(_) if !self.options.password_cost.is_zero() => self.pause(self.options.password_cost),
            _ => {}
        }
        who
    }

    fn login_otherwise(&self, request: &Request) -> Who {
        let state = self.state();
        if let Some(value) = request.header("authorization") {
            let claims = value.strip_prefix("Bearer ").and_then(|token| token::verify(&state, token));
            return claims.map_or(Who::Anonymous, Who::Bearer);
        }
        let session = request.cookie("sid").and_then(|sid| state.sessions.get(sid));
        session.map_or(Who::Anonymous, |user| Who::User(user.clone()))
    }

    /// A write with a session's cookie needs the CSRF token beside its cookie, whatever else it carries.
    pub(super) fn check_csrf(&self, request: &Request) -> Option<Reply> {
        let needed = request.writes() && (request.cookie("sid").is_some() || request.path == "/c/login");
        let given =
            request.cookie("_gorilla_csrf").is_some() && request.header("x-harbor-csrf-token").is_some();
        (needed && !given).then(|| Reply::error(403, "FORBIDDEN", "CSRF token not found in request"))
    }

    /// Adds what every answer of Harbor's has.
    pub(super) fn dress(&self, request: &Request, mut reply: Reply) -> Reply {
        if reply.front {
            return reply;
        }
        let id = request.header("x-request-id").map_or_else(|| random(32), str::to_owned);
        reply.headers.push(("X-Request-Id".into(), id));
        let session = request.cookie("sid").is_some() || request.path == "/c/login";
        let has_token = request.cookie("_gorilla_csrf").is_some();
        if session {
            reply.headers.push(("X-Harbor-Csrf-Token".into(), random(64)));
        }
        // One cookie an answer, as recorded: the token's where a session is shown, the session's where none is.
        let cookie = match (session, has_token) {
            (true, false) => {
                format!("_gorilla_csrf={}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict", random(40))
            }
            (true, true) if request.path != "/c/login" => return reply,
            _ => format!("sid={}; Path=/; HttpOnly", reply_sid(self, request)),
        };
        if reply.cookie {
            reply.headers.push(("Set-Cookie".into(), cookie));
        }
        reply
    }
}

/// The session that a login made, or a new number.
fn reply_sid(shared: &Shared, request: &Request) -> String {
    let known = request.cookie("sid").filter(|sid| shared.state().sessions.contains_key(*sid));
    known.map_or_else(|| random(32), str::to_owned)
}

/// Letters and digits.
pub(super) fn random(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}
