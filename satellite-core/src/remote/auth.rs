//! Which `Authorization` goes with a request, and what to do on a 401.
//!
//! Nothing is sent until the registry asks. Then: a token for the scope if it named a token service (Docker Registry
//! v2 "Token Authentication"), else the password (RFC 7617). What it asked for is remembered, because Harbor answers
//! every request that carries an `Authorization` with a Basic challenge, and some of its 401s with none. A 401 is
//! never taken for the loss of an account.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_io::Timer;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use url::Url;

use super::{
    Credentials, Result, Secret,
    challenge::{self, Challenge},
    credentials::Resolved,
    keep_tls,
    scope::Scopes,
    token::{Realm, get},
    wire::{Wire, host_of},
};

/// Tokens kept. Each holds the scopes that it was asked for.
const MAX_TOKENS: usize = 64;
pub(super) struct Auth {
    host: String,
    base: Url,
    credentials: Credentials,
    freeze: Duration,
    /// Whether one token is for everything, whatever scope a challenge names.
    one_token: bool,
    state: Mutex<State>,
    /// Held while a token is fetched: many requests at once cost one token.
    fetching: async_lock::Mutex<()>,
}

#[derive(Default)]
struct State {
    way: Way,
    tokens: Vec<Token>,
    resolved: Option<Resolved>,
}

/// How the registry wants to be spoken to.
#[derive(Clone, Default)]
enum Way {
    /// It has not asked for anything yet.
    #[default]
    Unknown,
    Basic,
    Bearer(Realm),
}

struct Token {
    scopes: Scopes,
    value: Secret,
    /// By the monotonic clock: a wrong wall clock must not matter.
    expires: Instant,
}

/// How far a request has come in proving who we are.
#[derive(Default)]
pub(super) struct Login {
    header: Option<Secret>,
    /// The token in the header.
    token: Option<Secret>,
    /// A token was fetched for this request; another one would be refused alike.
    fetched: bool,
    /// The password was sent.
    basic: bool,
    /// The login freeze was waited for.
    waited: bool,
    /// `GET /v2/` was asked how it wants to be spoken to.
    probed: bool,
    /// The registry's own idea of the scope was taken over.
    widened: bool,
}

impl Login {
    pub(super) fn header(&self) -> Option<&str> {
        self.header.as_ref().map(Secret::expose)
    }

    fn with_token(&mut self, token: Secret, fetched: bool) {
        self.header = Some(Secret::new(format!("Bearer {}", token.expose())));
        self.token = Some(token);
        self.fetched |= fetched;
    }

    fn with_password(&mut self, header: Secret) {
        self.header = Some(header);
        self.token = None;
        self.basic = true;
    }
}

impl Auth {
    pub(super) fn new(
        host: &str,
        base: Url,
        credentials: Credentials,
        freeze: Duration,
        one_token: bool,
    ) -> Self {
        Self {
            host: host.to_string(),
            base,
            credentials,
            freeze,
            one_token,
            state: Mutex::default(),
            fetching: async_lock::Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops tokens, and credentials read from files; what the registry asks for stays known.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.tokens.clear();
        state.resolved = None;
    }

    /// What to send with a request's first try.
    pub(super) async fn begin(&self, wire: &Wire, scopes: &Scopes) -> Result<Login> {
        let mut login = Login::default();
        let way = self.state().way.clone();
        match way {
            Way::Unknown => {}
            Way::Basic => {
                if let Some(header) = self.password().await? {
                    login.with_password(header);
                }
            }
            Way::Bearer(realm) => match self.token(wire, &realm, scopes).await {
                Ok((token, fetched)) => login.with_token(token, fetched),
                // It may want a pause, or another way: the registry's own 401 shows.
                Err(error) if error.is_unauthorized() => login.fetched = true,
                Err(error) => return Err(error),
            },
        }
        Ok(login)
    }

    /// After a 401: whether `login` now holds something else to try.
    pub(super) async fn again(
        &self,
        wire: &Wire,
        scopes: &Scopes,
        login: &mut Login,
        challenges: &[Challenge],
        may_wait: bool,
    ) -> Result<bool> {
        if let Some(refused) = login.token.take() {
            self.state().tokens.retain(|t| t.value != refused);
        }
        let offers_basic = challenges.iter().any(|c| c.scheme == "basic");
        let mut asked = scopes.clone();
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            self.learn(bearer);
            let scope = bearer.get("scope").filter(|_| !self.one_token);
            let wanted = Scopes::parse(scope.unwrap_or_default());
            if !asked.covers(&wanted) && !login.widened {
                // It wants more than we thought (RFC 6750 §3.1, `insufficient_scope`): worth another token.
                login.widened = true;
                login.fetched = false;
            }
            asked = asked.union(&wanted);
        } else if !login.probed && !offers_basic && matches!(self.state().way, Way::Unknown) {
            // An empty challenge, as Harbor's for a project that it does not show.
            login.probed = true;
            self.probe(wire).await?;
        }
        if self.try_token(wire, &asked, login).await? {
            return Ok(true);
        }
        if offers_basic
            && !login.basic
            && let Some(header) = self.password().await?
        {
            let mut state = self.state();
            if matches!(state.way, Way::Unknown) {
                state.way = Way::Basic;
            }
            drop(state);
            login.with_password(header);
            return Ok(true);
        }
        if login.waited || !may_wait || self.resolve().await?.is_anonymous() {
            return Ok(false);
        }
        login.waited = true;
        Timer::after(self.freeze).await;
        // Files and helpers may have new credentials by now.
        self.state().resolved = None;
        login.fetched = false;
        if self.try_token(wire, &asked, login).await? {
            return Ok(true);
        }
        match self.password().await?.filter(|_| login.basic) {
            Some(header) => login.with_password(header),
            None => return Ok(false),
        }
        Ok(true)
    }

    async fn try_token(&self, wire: &Wire, scopes: &Scopes, login: &mut Login) -> Result<bool> {
        let Way::Bearer(realm) = self.state().way.clone() else { return Ok(false) };
        if login.fetched {
            return Ok(false);
        }
        login.fetched = true;
        match self.token(wire, &realm, scopes).await {
            Ok((token, _)) => login.with_token(token, true),
            Err(error) if error.is_unauthorized() => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn learn(&self, bearer: &Challenge) {
        let Some(url) = bearer.get("realm").and_then(|r| self.base.join(r).ok()) else { return };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return;
        }
        let realm =
            Realm { url: keep_tls(&self.base, url), service: bearer.get("service").map(String::from) };
        let mut state = self.state();
        if !matches!(&state.way, Way::Bearer(known) if *known == realm) {
            log::debug!(registry = self.host.as_str(), realm = host_of(&realm.url).as_str(); "token service");
            state.way = Way::Bearer(realm);
        }
    }

    async fn probe(&self, wire: &Wire) -> Result<()> {
        let mut url = self.base.clone();
        url.set_path("/v2/");
        let reply = wire.send(get(&url, Vec::new())).await?;
        for challenge in reply.headers("www-authenticate").into_iter().flat_map(challenge::parse) {
            match challenge.scheme.as_str() {
                "bearer" => self.learn(&challenge),
                "basic" => {
                    let mut state = self.state();
                    if matches!(state.way, Way::Unknown) {
                        state.way = Way::Basic;
                    }
                }
                _ => {}
            }
        }
        reply.drain().await;
        Ok(())
    }

    async fn resolve(&self) -> Result<Resolved> {
        if let Some(resolved) = self.state().resolved.clone() {
            return Ok(resolved);
        }
        let resolved = self.credentials.resolve(&self.host).await?;
        self.state().resolved = Some(resolved.clone());
        Ok(resolved)
    }

    async fn password(&self) -> Result<Option<Secret>> {
        Ok(self.resolve().await?.basic())
    }

    /// A token for these scopes, and whether it is new.
    async fn token(&self, wire: &Wire, realm: &Realm, scopes: &Scopes) -> Result<(Secret, bool)> {
        if let Some(token) = self.cached(scopes) {
            return Ok((token, false));
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(token) = self.cached(scopes) {
            return Ok((token, false));
        }
        // One token for all that is done to a repository, instead of one for each action.
        let scopes = self.state().tokens.iter().fold(scopes.clone(), |all, t| all.grown_by(&t.scopes));
        let asked_at = Instant::now();
        let who = self.resolve().await?;
        let (value, life) = realm.fetch(wire, &self.base, &self.host, &who, &scopes).await?;
        // A little early, for the request's way there.
        let margin = (life / 10).min(Duration::from_secs(10));
        let token = Token { expires: asked_at + life.saturating_sub(margin), value: value.clone(), scopes };
        let mut state = self.state();
        state.tokens.retain(|t| !token.scopes.covers(&t.scopes));
        if state.tokens.len() >= MAX_TOKENS {
            state.tokens.remove(0);
        }
        state.tokens.push(token);
        Ok((value, true))
    }

    fn cached(&self, scopes: &Scopes) -> Option<Secret> {
        let now = Instant::now();
        let mut state = self.state();
        state.tokens.retain(|t| t.expires > now);
        state.tokens.iter().find(|t| t.scopes.covers(scopes)).map(|t| t.value.clone())
    }
}

/// RFC 7617.
pub(super) fn basic(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose()))))
}
