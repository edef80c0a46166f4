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
