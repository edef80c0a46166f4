//! Blobs under way: uploads by clients and transfers by the replicator, one writer each.

use std::{
    fs,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    Inner, Store,
    arrival::Arrival,
    claims::Claim,
    error::{Context, Error, Result},
    files::random_u64,
    writer::{Resume, Writer},
};
use crate::oci::{Algorithm, Digest, Repository};

/// What [`Store::receive`] found.
pub enum Receive {
    /// The store has it already, with this size.
    Present(u64),
    /// Somebody is receiving it: follow, or wait for the end.
    Join(Arc<Arrival>),
    /// Nobody is: write it, from [`Writer::offset`] on.
    Lead(Box<Writer>),
}

impl Store {
    /// Begins an upload to `repository`. Its id is unguessable. The hash is SHA-256 unless the client says otherwise.
    pub async fn begin_upload(&self, repository: &Repository, algorithm: Algorithm) -> Result<Writer> {
        let (inner, repository) = (self.inner.clone(), repository.clone());
        self.inner
            .pool
            .run(move || {
                let id = format!("u-{:016x}{:016x}", random_u64(), random_u64());
                let claim = Claim::take(&inner, id)?;
                Writer::open(&inner, claim, algorithm, Some(repository), Resume::New)
            })
            .await
    }

    /// Goes on with an upload at its last durable byte, in this process or after a restart.
    pub async fn resume_upload(&self, repository: &Repository, id: &str) -> Result<Writer> {
        let well_formed =
            id.len() == 34 && id.starts_with("u-") && id[2..].bytes().all(|b| b.is_ascii_hexdigit());
        if !well_formed {
            return Err(Error::UploadUnknown(id.chars().take(64).collect()));
        }
        let (inner, wanted, id) = (self.inner.clone(), repository.clone(), id.to_string());
        self.inner
            .pool
            .run(move || {
                if !inner.files.partials().join(&id).with_extension("ck").exists() {
                    return Err(Error::UploadUnknown(id));
                }
                let claim = Claim::take(&inner, id.clone())?;
                let writer = Writer::open(&inner, claim, Algorithm::Sha256, None, Resume::Must)?;
                if writer.repository() != Some(&wanted) {
                    return Err(Error::UploadUnknown(id));
                }
                Ok(writer)
            })
            .await
    }

    /// Receives a blob of known digest: one writer for all that want it, going on where an earlier try stopped. A file
    /// of another than the `expected` size is damaged: it is received again, and replaced.
    pub async fn receive(&self, digest: &Digest, expected: Option<u64>) -> Result<Receive> {
        let (inner, digest) = (self.inner.clone(), digest.clone());
        self.inner
            .pool
            .run(move || {
                // Held over the whole decision, so that two callers cannot both lead.
                let mut arrivals = inner.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(arrival) = arrivals.get(&digest) {
                    return Ok(Receive::Join(arrival.clone()));
                }
                // First: a collection that has not removed it yet then keeps it.
                inner.touch(&digest);
                if let Some(stat) =
                    inner.files.stat(&digest)?.filter(|s| expected.is_none_or(|e| e == s.size))
                {
                    return Ok(Receive::Present(stat.size));
                }
                let claim = Claim::take(&inner, format!("t-{}-{}", digest.algorithm(), digest.hex()))?;
                let mut writer = Writer::open(&inner, claim, digest.algorithm(), None, Resume::IfThere)?;
                arrivals.insert(digest.clone(), writer.announce(&digest));
                Ok(Receive::Lead(Box::new(writer)))
            })
            .await
    }

    /// The arrival of a blob, if it is arriving.
    pub fn arriving(&self, digest: &Digest) -> Option<Arc<Arrival>> {
        self.inner.arrivals.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Bytes of a blob that an earlier try left, durable.
    pub fn resumable(&self, digest: &Digest) -> u64 {
        let path = self.inner.files.partials().join(format!("t-{}-{}", digest.algorithm(), digest.hex()));
        match super::checkpoint::CheckpointFile::open(&path.with_extension("ck")) {
            Ok(Some((_, checkpoint))) => checkpoint.offset,
            _ => 0,
        }
    }
}

impl Inner {
    pub(super) fn forget_arrival(&self, arrival: &Arc<Arrival>) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.get(arrival.digest()).is_some_and(|a| Arc::ptr_eq(a, arrival)) {
            arrivals.remove(arrival.digest());
        }
    }

    /// Removes what nobody has written to for `idle`. Returns files removed and bytes freed.
    pub(super) fn sweep_partials(&self, idle: Duration) -> Result<(u64, u64)> {
        let dir = self.files.partials();
        let (mut files, mut bytes) = (0, 0);
        for entry in fs::read_dir(&dir).at("list", &dir)? {
            let entry = entry.at("list", &dir)?;
            let Ok(meta) = entry.metadata() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.strip_suffix(".ck").unwrap_or(&name);
            let age = meta.modified().ok().and_then(|m| SystemTime::now().duration_since(m).ok());
            // No age: the clock is before the file's. Keep it.
            if !meta.is_file()
                || age.is_none_or(|a| a < idle)
                || !(id.starts_with("u-") || id.starts_with("t-"))
            {
                continue;
            }
            let gone = self.claims.unless_held(id, || fs::remove_file(entry.path()).is_ok());
            if gone == Some(true) {
                files += 1;
                bytes += meta.len();
                if id == name {
                    self.space.freed(meta.len());
                }
            }
        }
        Ok((files, bytes))
    }
}
