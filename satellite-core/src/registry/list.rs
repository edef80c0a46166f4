//! Lists in pages: repositories, tags, referrers. No list is ever held whole.

use http::header;
use serde_json::json;

use super::{
    Answer, Call, Query, Registry, Response,
    error::{Code, Failure},
    set, with_bytes,
};
use crate::{
    oci::{Descriptor, Digest, Manifest, Reference, Repository, media_type},
    store::Result,
};

/// Bytes of a page of referrers, whose entries have no fixed size.
const MAX_PAGE_BYTES: usize = 3 << 20;

/// Takes up to `n` items, and says whether there are more.
fn page<T>(items: impl Iterator<Item = Result<T>>, n: usize) -> Result<(Vec<T>, bool)> {
    let mut taken = Vec::new();
    for item in items {
        let item = item?;
        if taken.len() == n {
            return Ok((taken, true));
        }
        taken.push(item);
    }
    Ok((taken, false))
}

impl Registry {
    fn page_size(&self, query: &Query) -> std::result::Result<usize, Failure> {
        match query.get("n") {
            None => Ok(self.settings.page),
            Some(text) => match text.parse::<usize>() {
                Ok(n) => Ok(n.min(self.settings.page)),
                Err(_) => Err(Failure::new(Code::SizeInvalid, "the parameter n is not a number")
                    .status(http::StatusCode::BAD_REQUEST)),
            },
        }
    }

    /// `/v2/_catalog`
    pub(super) fn catalog(&self, query: &Query) -> Answer {
        let n = self.page_size(query)?;
        // A `last` that is no name sorts before everything that is.
        let last = query.get("last").and_then(|t| t.parse::<Repository>().ok());
        let (names, more) = page(self.store.repositories(last.as_ref()), n)?;
        let mut response = json_page(&json!({"repositories": names}));
        if let (true, Some(last)) = (more, names.last()) {
            link(&mut response, &format!("/v2/_catalog?n={n}&last={last}"));
        }
        Ok(response)
    }

    /// `/v2/NAME/tags/list`
    pub(super) fn tags(&self, call: &Call<'_>) -> Answer {
        let name = &call.repository;
        let n = self.page_size(&call.query)?;
        if !self.store.has_repository(name)? {
            return Err(Failure::new(Code::NameUnknown, &format!("repository {name} is not here"))
                .detail(json!({"name": name.as_str()})));
        }
        let tags = self.store.tags(name, call.query.get("last")).map(|t| t.map(|(tag, _)| tag));
        let (tags, more) = page(tags, n)?;
        let mut response = json_page(&json!({"name": name, "tags": tags}));
        if let (true, Some(last)) = (more, tags.last()) {
            link(&mut response, &format!("/v2/{name}/tags/list?n={n}&last={last}"));
        }
        Ok(response)
    }

    /// `/v2/NAME/referrers/DIGEST`: an index, empty if nothing is about it.
    pub(super) fn referrers(&self, call: &Call<'_>, subject: &Digest) -> Answer {
        let n = self.page_size(&call.query)?.max(1);
        let last = call.query.digest("last")?;
        let filter = call.query.get("artifactType");
        let mut found: Vec<Descriptor> = Vec::new();
        let (mut bytes, mut next) = (0, None);
        for item in self.store.referrers(&call.repository, subject, last.as_ref()) {
            // One that is damaged must not hide the others.
            let Ok(item) = item.inspect_err(|e| log::warn!("a referrer of {subject} is left out: {e}"))
            else {
                continue;
            };
            if filter.is_some_and(|f| item.artifact_type.as_deref() != Some(f)) {
                continue;
            }
            bytes += 200 + item.annotations.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>();
            if found.len() == n || (bytes > MAX_PAGE_BYTES && !found.is_empty()) {
                next = found.last().map(|d| d.digest.clone());
                break;
            }
            found.push(item);
        }
        if next.is_none() {
            self.add_by_tag(call, subject, filter, &mut found)?;
        }
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": found});
        let mut response = with_bytes(media_type::OCI_INDEX, index.to_string().into());
        if filter.is_some() {
            set(&mut response, http::HeaderName::from_static("oci-filters-applied"), "artifactType");
        }
        if let Some(next) = next {
            let filter = filter.map(|f| format!("&artifactType={}", encode(f))).unwrap_or_default();
            link(
                &mut response,
                &format!("/v2/{}/referrers/{subject}?n={n}&last={next}{filter}", call.repository),
            );
        }
        Ok(response)
    }
}

impl Registry {
    /// Adds what a client that knew no referrers API listed under the tag that stood in for it (distribution-spec,
    /// "Enabling the Referrers API": such entries must show). Those with a `subject` are in the list already.
    fn add_by_tag(
        &self,
        call: &Call<'_>,
        subject: &Digest,
        filter: Option<&str>,
        found: &mut Vec<Descriptor>,
    ) -> std::result::Result<(), Failure> {
        let Ok(tag) = format!("{}-{}", subject.algorithm(), subject.hex()).parse() else { return Ok(()) };
        let reference = Reference::Tag(tag);
        let Some(info) = self.store.manifest(&call.repository, &reference)? else { return Ok(()) };
        let Some(raw) = self.store.manifest_bytes(&info)? else { return Ok(()) };
        let Ok(index) = Manifest::parse(raw, Some(&info.media_type)) else { return Ok(()) };
        for child in index.children {
            let by_digest = Reference::Digest(child.digest.clone());
            let named = self.store.manifest(&call.repository, &by_digest)?;
            let listed = named.is_none_or(|m| m.subject.as_ref() == Some(subject));
            if !listed && filter.is_none_or(|f| child.artifact_type.as_deref() == Some(f)) {
                found.push(child);
            }
        }
        Ok(())
    }
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn json_page(value: &serde_json::Value) -> Response {
    with_bytes("application/json", value.to_string().into())
}

/// RFC 8288, as the specification uses it for pages.
fn link(response: &mut Response, target: &str) {
    set(response, header::LINK, format!("<{target}>; rel=\"next\""));
}
