//! Lists: tags, repositories, referrers (OCI Distribution 1.1, "Content Discovery").

use std::collections::HashSet;

use serde::Deserialize;
use surf::http::Method;
use url::Url;

use super::{Error, Fetched, Registry, Result, call::Call, link, scope::Scopes};
use crate::oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag, media_type};

/// Largest page, in bytes.
const MAX_PAGE: usize = 4 << 20;
/// Most pages and entries of one list.
const MAX_PAGES: usize = 1000;
const MAX_ENTRIES: usize = 100_000;
/// Entries asked for per page.
const PAGE: usize = 1000;

impl Registry {
    /// All tags of a repository, in the registry's order. What is no tag by the grammar is left out.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond 100,000; one that [`is_not_found`](Error::is_not_found) for an unknown repository.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let path = format!("{repository}/tags/list?n={PAGE}");
        let call = self.call(Method::Get, &path, repository.as_str(), Scopes::pull(repository));
        let texts = self.pages(call, |page: Page| page.tags.unwrap_or_default()).await?;
        Ok(texts.iter().filter_map(|t| t.parse().ok()).collect())
    }

    /// All repositories that the registry lists for us. Harbor wants an account with that right and Basic
    /// authentication; Docker Hub has no such list.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond 100,000.
    pub async fn catalog(&self) -> Result<Vec<Repository>> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<Vec<String>>,
        }
        let call = self.call(Method::Get, &format!("_catalog?n={PAGE}"), "_catalog", Scopes::catalog());
        let texts = self.pages(call, |page: Page| page.repositories.unwrap_or_default()).await?;
        Ok(texts.iter().filter_map(|t| t.parse().ok()).collect())
    }

    /// Manifests whose subject is `digest`, of one artifact type or of all. Asks the referrers API and, where the
    /// registry has none (404), the tag that stands in for it ("Referrers Tag Schema"). An empty list where there
    /// are none.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let object = format!("{repository}@{digest}");
        let filter = artifact_type.map(|t| {
            let encoded: String = url::form_urlencoded::byte_serialize(t.as_bytes()).collect();
            format!("?artifactType={encoded}")
        });
        let path = format!("{repository}/referrers/{digest}{}", filter.unwrap_or_default());
        let call = self
            .call(Method::Get, &path, &object, Scopes::pull(repository))
            .header("accept", media_type::OCI_INDEX);
        let mut found = match self.pages_with(call, &parse_index).await {
            Err(error) if error.is_not_found() => self.referrers_by_tag(repository, digest).await?,
            other => other?,
        };
        // A registry need not filter, and may filter without saying so.
        found.retain(|d| artifact_type.is_none_or(|t| d.artifact_type.as_deref() == Some(t)));
        Ok(found)
    }

    async fn referrers_by_tag(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Descriptor>> {
        // The schema cuts at 128 characters, so that a SHA-512 fits.
        let mut tag = format!("{}-{}", digest.algorithm(), digest.hex());
        tag.truncate(128);
        let Ok(tag) = tag.parse() else { return Ok(Vec::new()) };
        match self.get_manifest(repository, &Reference::Tag(tag), None).await {
            Ok(Fetched::Manifest { bytes, .. }) => {
                parse_index(&bytes).map_err(|what| Error::protocol(self.host(), repository.as_str(), what))
            }
            Ok(Fetched::NotModified) => Ok(Vec::new()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn pages<P: for<'de> Deserialize<'de>, T>(
        &self,
        call: Call,
        entries: fn(P) -> Vec<T>,
    ) -> Result<Vec<T>> {
        let parse = move |bytes: &[u8]| {
            let page: P = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
            Ok(entries(page))
        };
        self.pages_with(call, &parse).await
    }

    /// Follows `Link: …; rel="next"` to the end. Pages elsewhere than at this registry are not asked for.
    async fn pages_with<T>(
        &self,
        mut call: Call,
        parse: &(impl Fn(&[u8]) -> std::result::Result<Vec<T>, String> + Sync),
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        let mut seen: HashSet<Url> = HashSet::new();
        loop {
            let too_large = |limit, unit| Error::TooLarge {
                host: self.host().into(),
                object: call.object.clone(),
                limit,
                unit,
            };
            if seen.len() >= MAX_PAGES {
                return Err(too_large(MAX_PAGES, "pages"));
            }
            let (page, next) = self.page(&call, parse).await?;
            all.extend(page);
            if all.len() > MAX_ENTRIES {
                return Err(too_large(MAX_ENTRIES, "entries"));
            }
            let Some(next) = next else { return Ok(all) };
            seen.insert(call.url.clone());
            if next.origin() != self.0.base.origin() || seen.contains(&next) {
                return Err(Error::protocol(
                    self.host(),
                    &call.object,
                    "the next page is not a page of this list",
                ));
            }
            call.url = next;
        }
    }

    async fn page<T>(
        &self,
        call: &Call,
        parse: &(impl Fn(&[u8]) -> std::result::Result<Vec<T>, String> + Sync),
    ) -> Result<(Vec<T>, Option<Url>)> {
        let mut attempts = self.attempts();
        loop {
            let result = async {
                let mut reply = self.try_for(call, &[200]).await?;
                let bytes = reply.read(MAX_PAGE).await?;
                let entries = parse(&bytes).map_err(|what| reply.protocol(what))?;
                let next = reply.headers("link").into_iter().find_map(link::next);
                let next = next.and_then(|target| reply.url.join(target).ok());
                Ok((entries, next.map(|url| super::keep_tls(&self.0.base, url))))
            };
            match result.await {
                Ok(page) => return Ok(page),
                Err(error) => attempts.wait(error).await?,
            }
        }
    }
}

fn parse_index(bytes: &[u8]) -> std::result::Result<Vec<Descriptor>, String> {
    let manifest = Manifest::parse(bytes.to_vec(), Some(media_type::OCI_INDEX)).map_err(|e| e.to_string())?;
    Ok(manifest.children)
}
