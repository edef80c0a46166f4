//! Blobs: look, read from an offset, delete (OCI Distribution 1.1, "Pulling blobs"; RFC 9110 §14).

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use surf::http::Method;
use url::Url;

use super::{Error, Registry, Result, scope::Scopes, wire::Reply};
use crate::{
    net::message::ByteStream,
    oci::{Digest, Repository},
};

/// Validators remembered; one is some hundred bytes.
const MAX_ETAGS: usize = 64;

/// A blob's bytes as they arrive.
pub struct BlobStream {
    /// First byte of the stream: the offset asked for, or 0 where the registry knows no ranges.
    pub offset: u64,
    /// The whole blob's length, where the registry says. A stream that ends before it, without an error, was cut
    /// short by the registry and can be asked for again from there.
    pub total: Option<u64>,
    /// The bytes, unverified. It fails with [`std::io::ErrorKind::TimedOut`] when nothing comes for the stall
    /// time-out, and with another error if the connection ends early.
    pub stream: ByteStream,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobStream(from {} of {:?})", self.offset, self.total)
    }
}

/// Strong validators by who gave them: what a registry calls a blob says nothing to the storage it redirects to.
#[derive(Default)]
pub(super) struct Etags(Mutex<VecDeque<(url::Origin, Digest, String)>>);

impl Etags {
    pub(super) fn get(&self, url: &Url, digest: &Digest) -> Option<String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = url.origin();
        seen.iter().find(|(o, d, _)| *o == origin && d == digest).map(|(.., etag)| etag.clone())
    }

    fn note(&self, reply: &Reply, digest: &Digest) {
        // Weak ones do not vouch for bytes (RFC 9110 §13.1.5).
        let strong = |e: &&str| e.len() <= 256 && e.starts_with('"') && e.ends_with('"');
        let Some(etag) = reply.header("etag").map(str::trim).filter(strong) else { return };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = reply.url.origin();
        seen.retain(|(o, d, _)| !(*o == origin && d == digest));
        if seen.len() >= MAX_ETAGS {
            seen.pop_front();
        }
        seen.push_back((origin, digest.clone(), etag.to_string()));
    }
}

impl Registry {
    /// The blob's length in bytes, or `None` if the repository has no such blob.
    pub async fn head_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>> {
        let object = format!("{repository}@{digest}");
        let path = format!("{repository}/blobs/{digest}");
        let call = self.call(Method::Head, &path, &object, Scopes::pull(repository));
        let reply = self.run_for(&call, &[200, 404]).await?;
        match (reply.status, reply.length()) {
            (404, _) => Ok(None),
            (_, Some(length)) => Ok(Some(length)),
            (_, None) => Err(reply.protocol("no Content-Length for a blob")),
        }
    }

    /// The blob's bytes from `offset` to the end, as they come: nobody has checked them against the digest. Follows
    /// redirects to object storage. Dropping the stream closes the connection. It is not tried again: whoever copies a
    /// blob goes on where it stopped, perhaps elsewhere.
    ///
    /// # Errors
    /// [`Error::Range`] if the blob ends at or before `offset`; one that [`is_not_found`](Error::is_not_found).
    pub async fn open_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream> {
        let object = format!("{repository}@{digest}");
        let path = format!("{repository}/blobs/{digest}");
        let mut call = self.call(Method::Get, &path, &object, Scopes::pull(repository));
        call.verified = true;
        if offset > 0 {
            call = call.header("range", format!("bytes={offset}-"));
            call.if_range = Some(digest.clone());
        }
        let wanted: &[u16] = if offset > 0 { &[200, 206, 416] } else { &[200] };
        let reply = self.try_for(&call, wanted).await?;
        let total = match reply.status {
            206 => {
                let header = reply.header("content-range").unwrap_or_default();
                match content_range(header) {
                    Some((Some((first, last)), total))
                        if first == offset && total.is_none_or(|t| last < t) =>
                    {
                        total
                    }
                    _ => {
                        return Err(
                            reply.protocol(format!("asked from {offset}, got Content-Range {header:?}"))
                        );
                    }
                }
            }
            416 => {
                let total =
                    reply.header("content-range").and_then(content_range).and_then(|(_, total)| total);
                let (host, object) = (reply.host.clone(), reply.object.clone());
                reply.drain().await;
                return Err(Error::Range { host, object, offset, total });
            }
            _ => reply.length(),
        };
        self.0.etags.note(&reply, digest);
        let offset = if reply.status == 206 { offset } else { 0 };
        Ok(BlobStream { offset, total, stream: reply.body })
    }

    /// Removes a blob from a repository; Harbor does so even while a manifest there needs it. `false`: it was not
    /// there.
    pub async fn delete_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let object = format!("{repository}@{digest}");
        let path = format!("{repository}/blobs/{digest}");
        self.delete(self.call(Method::Delete, &path, &object, Scopes::delete(repository))).await
    }
}

/// First and last byte, and the total, where said.
type ContentRange = (Option<(u64, u64)>, Option<u64>);

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10` (RFC 9110 §14.4).
fn content_range(header: &str) -> Option<ContentRange> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((Some((first, last)), total))
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(text: &str) {
    if let Some((Some((first, last)), _)) = content_range(text) {
        assert!(first <= last);
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges_are_read() {
        let table = [
            ("bytes 5-9/10", Some((Some((5, 9)), Some(10)))),
            ("bytes 5-9/*", Some((Some((5, 9)), None))),
            ("bytes */10", Some((None, Some(10)))),
            ("bytes 9-5/10", None),
            ("bytes 5-/10", None),
            ("items 5-9/10", None),
            ("", None),
            ("bytes 5-99999999999999999999/*", None),
        ];
        for (header, expected) in table {
            assert_eq!(content_range(header), expected, "{header}");
        }
    }
}
