//! Who may do what where that is decided elsewhere: by accounts in a database, for each project.

use http::{HeaderMap, StatusCode, request::Parts};

use super::{
    Query,
    access::{Right, basic, challenge},
    error::{Code, Failure},
    route::{Route, Target},
};
use crate::oci::Repository;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// `/v2/`: to know whether its credentials are right.
    Login,
    /// The list of all repositories.
    Catalog,
    /// To read from a repository.
    Pull(&'a Repository),
    /// To push to a repository, or to delete from it.
    Write(&'a Repository),
}

/// Name and password of a request. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Who it says it is.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered.
    Admitted,
    /// 401: without credentials, or with wrong ones.
    Unknown,
    /// 403: we know who it is, and that it may not.
    Denied,
    /// 503: whoever knows cannot be asked now.
    Unavailable,
}

/// Decides. Asked for every request, before anything is looked up.
#[async_trait::async_trait]
pub trait Gate: Send + Sync {
    /// `login` is what the request's `Authorization: Basic` says, unverified.
    async fn admits(&self, wish: Wish<'_>, login: Option<Login>) -> Verdict;
}

/// Asks for what a path names, and for the repository that a blob is to be mounted from.
pub(super) async fn check(
    gate: &dyn Gate,
    right: Right,
    target: &Target,
    parts: &Parts,
) -> Result<(), Failure> {
    let headers = &parts.headers;
    let repository = match (&target.route, &target.repository) {
        (Route::Catalog, _) => return ask(gate, Wish::Catalog, headers).await,
        (_, None) => return ask(gate, Wish::Login, headers).await,
        (_, Some(repository)) => repository,
    };
    check_repository(gate, right, repository, headers).await?;
    let query = Query::parse(parts.uri.query());
    if target.route != Route::Uploads || query.get("mount").is_none() {
        return Ok(());
    }
    match query.get("from").map(str::parse::<Repository>) {
        Some(Ok(from)) => ask(gate, Wish::Pull(&from), headers).await,
        Some(Err(e)) => Err(Failure::new(Code::NameInvalid, &format!("{e}"))),
        // From wherever it is: that could be where it must not be read.
        None => Err(Failure::new(Code::Denied, "a mount must say from which repository")),
    }
}

pub(super) async fn check_repository(
    gate: &dyn Gate,
    right: Right,
    repository: &Repository,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let wish = match right {
        Right::Pull => Wish::Pull(repository),
        Right::Write => Wish::Write(repository),
    };
    ask(gate, wish, headers).await
}

async fn ask(gate: &dyn Gate, wish: Wish<'_>, headers: &HeaderMap) -> Result<(), Failure> {
    let login = basic(headers).map(|(user, password)| Login { user, password });
    match gate.admits(wish, login).await {
        Verdict::Admitted => Ok(()),
        Verdict::Unknown => Err(challenge("a right name and password are needed")),
        Verdict::Denied => Err(Failure::new(Code::Denied, "this account may not do that")),
        Verdict::Unavailable => {
            Err(Failure::new(Code::Unknown, "accounts cannot be checked now: try again later")
                .status(StatusCode::SERVICE_UNAVAILABLE))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        net::message::RequestBody,
        registry::{Access, Metrics, Registry, Settings},
        store::{Options, Store},
    };

    /// Writes down what it is asked, and says the same to all.
    struct Porter {
        asked: Mutex<Vec<String>>,
        verdict: Verdict,
    }

    #[async_trait::async_trait]
    impl Gate for Porter {
        async fn admits(&self, wish: Wish<'_>, login: Option<Login>) -> Verdict {
            let who = login.map_or_else(|| "-".into(), |l| format!("{}:{}", l.user, l.password));
            let what = match wish {
                Wish::Login => "login".into(),
                Wish::Catalog => "catalog".into(),
                Wish::Pull(r) => format!("pull {r}"),
                Wish::Write(r) => format!("write {r}"),
            };
            self.asked.lock().unwrap().push(format!("{who} {what}"));
            self.verdict.clone()
        }
    }

    fn ask(verdict: Verdict, method: &str, target: &str) -> (u16, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let porter = Arc::new(Porter { asked: Mutex::default(), verdict });
        let registry =
            Registry::new(store, Access::default(), Settings::default(), Arc::new(Metrics::default()))
                .with_gate(porter.clone());
        let request =
            http::Request::builder().method(method).uri(target).header("authorization", "Basic dTpw");
        let answer = smol::block_on(registry.answer(request.body(RequestBody::from_bytes("")).unwrap()));
        (answer.status().as_u16(), porter.asked.lock().unwrap().clone())
    }

    #[test]
    fn everything_is_asked_for_before_it_is_looked_up() {
        let d = crate::oci::Digest::sha256(b"");
        for (method, target, status, asked) in [
            ("GET", "/v2/".into(), 200, &["u:p login"][..]),
            ("GET", "/v2/_catalog".into(), 200, &["u:p catalog"]),
            ("HEAD", "/v2/a/b/manifests/v1".into(), 404, &["u:p pull a/b"]),
            ("GET", format!("/v2/a/b/blobs/{d}"), 404, &["u:p pull a/b"]),
            ("GET", format!("/v2/a/b/referrers/{d}"), 200, &["u:p pull a/b"]),
            ("PUT", "/v2/a/b/manifests/v1".into(), 400, &["u:p write a/b"]),
            ("DELETE", "/v2/a/b/manifests/v1".into(), 404, &["u:p write a/b"]),
            ("POST", "/v2/a/b/blobs/uploads/".into(), 202, &["u:p write a/b"]),
            (
                "POST",
                format!("/v2/a/b/blobs/uploads/?mount={d}&from=c/d"),
                202,
                &["u:p write a/b", "u:p pull c/d"],
            ),
            ("POST", format!("/v2/a/b/blobs/uploads/?mount={d}"), 403, &["u:p write a/b"]),
            ("GET", "/v2/a%2Fb/tags/list".into(), 404, &["u:p pull a/b"]),
            ("GET", "/v2/a/b/manifests/v1?ns=x.example".into(), 404, &["u:p pull a/b"]),
        ] {
            assert_eq!(
                ask(Verdict::Admitted, method, &target),
                (status, asked.iter().map(ToString::to_string).collect()),
                "{method} {target}"
            );
        }
        for (verdict, status) in
            [(Verdict::Unknown, 401), (Verdict::Denied, 403), (Verdict::Unavailable, 503)]
        {
            for (method, target) in
                [("GET", "/v2/"), ("GET", "/v2/a/b/tags/list"), ("PUT", "/v2/a/b/manifests/v1")]
            {
                assert_eq!(ask(verdict.clone(), method, target).0, status, "{method} {target}");
            }
        }
    }

    #[test]
    fn a_login_shows_no_password() {
        let login = Login { user: "u".into(), password: "hidden".into() };
        assert!(!format!("{login:?}").contains("hidden"));
    }
}
