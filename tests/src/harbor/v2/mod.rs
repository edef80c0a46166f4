//! The registry: core in front, which knows projects and rights, and distribution behind, which knows bytes.

mod blobs;
mod manifests;

use super::login::Who;
use super::message::{Reply, Request};
use super::rights::may;
use super::state::State;
use serde_json::{Value, json};

type Answer = Result<Reply, Reply>;

/// A call on its way.
struct Call<'a> {
    state: &'a mut State,
    who: &'a Who,
    request: &'a Request,
    /// Full name.
    name: String,
    /// Distribution is down.
    deaf: bool,
}

pub(super) fn answer(
    state: &mut State,
    who: &Who,
    request: &Request,
    postgres_down: bool,
    registry_down: bool,
) -> Reply {
    let mut call = Call { state, who, request, name: String::new(), deaf: registry_down };
    call.route(postgres_down).unwrap_or_else(|refused| refused)
}

/// What the rest of a path asks for.
enum Route<'a> {
    Tags,
    Manifest(&'a str),
    Blob(&'a str),
    Uploads,
    Upload(&'a str),
    Referrers(&'a str),
}

fn split(rest: &str) -> Option<(&str, Route<'_>)> {
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some((name, Route::Tags));
    }
    let (at, mark) = ["/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"]
        .into_iter()
        .filter_map(|mark| Some((rest.rfind(mark)?, mark)))
        .max_by_key(|(at, mark)| (*at, mark.len()))?;
    let last = &rest[at + mark.len()..];
    let route = match mark {
        "/blobs/uploads/" if last.is_empty() => Route::Uploads,
        "/blobs/uploads/" => Route::Upload(last),
        "/blobs/" => Route::Blob(last),
        "/manifests/" => Route::Manifest(last),
        _ => Route::Referrers(last),
    };
    Some((&rest[..at], route))
}

impl Call<'_> {
    fn route(&mut self, postgres_down: bool) -> Answer {
        let rest = self.request.path.strip_prefix("/v2/").unwrap_or_default().to_owned();
        if postgres_down {
            let text = "failed to connect to database: connection refused";
            return Err(unauthorized(text, ""));
        }
        if rest.is_empty() {
            return match self.who {
                Who::Anonymous => Err(self.challenge("unauthorized", &[])),
                _ => Ok(Reply::json_utf8(&json!({})).versioned()),
            };
        }
        if rest == "_catalog" {
            return self.catalog();
        }
        let unrecognised = || {
            unauthorized(&format!("un-recognized request: {} {}", self.request.method, self.request.path), "")
        };
        let (name, route) = split(&rest).ok_or_else(unrecognised)?;
        if name.split('/').any(|part| part.is_empty() || part.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err(unrecognised());
        }
        let Some((project, _)) = name.split_once('/') else {
            let text = format!("bad request: invalid repository name: {name}");
            return Err(Reply::error(400, "BAD_REQUEST", &text).without_cookie());
        };
        self.name = name.into();
        self.admit(project, &route)?;
        if name.len() > 255 {
            let detail = json!({"Name": name, "Reason": {}});
            return Err(Reply::registry_error(500, "UNKNOWN", "unknown error", &detail));
        }
        match route {
            Route::Tags => self.tags(),
            Route::Referrers(digest) => self.referrers(digest),
            Route::Manifest(reference) => self.manifest(reference),
            Route::Blob(digest) => self.blob(digest),
            Route::Uploads => self.begin_upload(),
            Route::Upload(id) => self.upload(id),
        }
    }

    /// Core's part: the project is there, and the caller may.
    fn admit(&self, project: &str, route: &Route<'_>) -> Result<(), Reply> {
        let action = match (self.request.method.as_str(), route) {
            ("GET" | "HEAD", Route::Upload(_)) => "push",
            ("GET" | "HEAD", _) => "pull",
            ("DELETE", Route::Upload(_)) => "push",
            ("DELETE", _) => "delete",
            _ => "push",
        };
        let from = self.request.query("from").filter(|_| self.request.query("mount").is_some());
        let wanted = [Some((self.name.as_str(), action)), from.map(|from| (from, "pull"))];
        let anonymous = matches!(self.who, Who::Anonymous) && self.request.header("authorization").is_none();
        for (name, action) in wanted.into_iter().flatten() {
            let found = self.state.project_of(name);
            if found.is_none() && !anonymous {
                return Err(unauthorized(&format!("project {project} not found"), ""));
            }
            // An anonymous client of a public project is sent for a token all the same.
            let may = found.is_some_and(|p| may(self.state, self.who, Some(p.id), "repository", action));
            if may && !anonymous {
                continue;
            }
            let text = if action == "pull" && anonymous {
                "authorize header needed to send HEAD to repository".to_owned()
            } else {
                format!("unauthorized to access repository: {name}, action: {action}")
            };
            let scopes: Vec<String> = wanted
                .into_iter()
                .flatten()
                .map(|(name, action)| {
                    let actions = if action == "push" { "pull,push" } else { action };
                    format!("repository:{name}:{actions}")
                })
                .collect();
            return Err(self.challenge(&text, &scopes));
        }
        Ok(())
    }

    /// With the token service, or with Basic once any `Authorization` was sent.
    fn challenge(&self, text: &str, scopes: &[String]) -> Reply {
        if self.request.header("authorization").is_some() {
            return unauthorized(text, "Basic realm=\"harbor\"");
        }
        let mut challenge = format!(
            "Bearer realm=\"http://{}/service/token\",service=\"harbor-registry\"",
            self.request.host()
        );
        if !scopes.is_empty() {
            challenge.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
        }
        unauthorized(text, &challenge)
    }

    /// Core passes on to a registry that is not there.
    fn behind(&self) -> Result<(), Reply> {
        if self.deaf { Err(Reply::empty(502)) } else { Ok(()) }
    }

    fn catalog(&self) -> Answer {
        let system = matches!(self.who, Who::User(_) | Who::Robot(_));
        if !system || !may(self.state, self.who, None, "catalog", "read") {
            return Err(unauthorized("unauthorized to list catalog", "Basic realm=\"harbor\""));
        }
        let names: Vec<String> = self.state.repositories.keys().cloned().collect();
        let (shown, next) = self.some(names)?;
        let reply = Reply::json_utf8(&json!({"repositories": shown}));
        Ok(match next {
            Some((last, n)) => {
                let last = last.replace('/', "%2F");
                reply.header("Link", &format!("</v2/_catalog?last={last}&n={n}>; rel=\"next\""))
            }
            None => reply,
        })
    }

    fn tags(&self) -> Answer {
        let repository = self.state.repositories.get(&self.name).ok_or_else(|| self.no_repository())?;
        let (shown, next) = self.some(repository.tags.keys().cloned().collect())?;
        let reply = Reply::json_utf8(&json!({"name": self.name, "tags": shown}));
        Ok(match next {
            Some((last, n)) => reply
                .header("Link", &format!("</v2/{}/tags/list?last={last}&n={n}>; rel=\"next\"", self.name)),
            None => reply,
        })
    }

    /// `n` and `last` of a sorted list; and whether there is more.
    #[allow(clippy::type_complexity)]
    fn some(&self, names: Vec<String>) -> Result<(Vec<String>, Option<(String, usize)>), Reply> {
        let last = self.request.query("last").unwrap_or_default();
        let rest: Vec<String> = names.into_iter().filter(|name| name.as_str() > last).collect();
        let Some(n) = self.request.query("n") else { return Ok((rest, None)) };
        let n: usize =
            n.parse().map_err(|_| Reply::error(400, "BAD_REQUEST", "the N must be a positive int type"))?;
        let more = n > 0 && rest.len() > n;
        let shown: Vec<String> = rest.into_iter().take(n).collect();
        let next = shown.last().filter(|_| more).map(|last| (last.clone(), n));
        Ok((shown, next))
    }

    fn referrers(&self, digest: &str) -> Answer {
        let wanted = self.request.query("artifactType");
        let repository = self.state.repositories.get(&self.name);
        let all: Vec<Value> = repository
            .into_iter()
            .flat_map(|r| &r.artifacts)
            .filter(|(_, artifact)| artifact.subject().as_deref() == Some(digest))
            .map(|(own, artifact)| {
                let manifest = artifact.manifest();
                let config = manifest["config"]["mediaType"].clone();
                let kind = if manifest["artifactType"].is_string() { manifest["artifactType"].clone() } else { config };
                json!({"mediaType": artifact.media_type, "digest": own, "size": artifact.bytes.len(), "artifactType": kind})
            })
            .collect();
        // The count is that before the filter.
        let total = all.len().to_string();
        let shown: Vec<Value> =
            all.into_iter().filter(|m| wanted.is_none_or(|kind| m["artifactType"] == kind)).collect();
        let index = "application/vnd.oci.image.index.v1+json";
        let body = json!({"schemaVersion": 2, "mediaType": index, "manifests": shown});
        let reply = Reply::empty(200).header("Content-Type", index).header("X-Total-Count", &total);
        let reply =
            if wanted.is_some() { reply.header("OCI-Filters-Applied", "artifactType") } else { reply };
        Ok(reply.bytes(body.to_string().into_bytes()))
    }

    fn no_repository(&self) -> Reply {
        Reply::error(404, "NOT_FOUND", &format!("repository {} not found", self.name))
    }
}

fn unauthorized(text: &str, challenge: &str) -> Reply {
    let reply = Reply::error(401, "UNAUTHORIZED", &format!("{text}: {text}"));
    reply.versioned().header("Www-Authenticate", challenge)
}

/// Whether a media type is one of an index.
pub(super) fn is_index(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

/// The grammar of tags.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        matches!((algorithm, hex.len()), ("sha256", 64) | ("sha512", 128))
            && hex.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    })
}
