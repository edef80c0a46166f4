//! Who writes to which blob under way: one writer each.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Inner,
    error::{Error, Result},
};

/// Names of blobs under way that have a writer now.
#[derive(Default)]
pub(super) struct Claims(Mutex<HashSet<String>>);

impl Claims {
    /// Runs `job` if nobody writes to `id`, and lets nobody begin meanwhile.
    pub(super) fn unless_held<T>(&self, id: &str, job: impl FnOnce() -> T) -> Option<T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!held.contains(id)).then(job)
    }
}

/// The right to write to one of them, given back on drop.
pub(super) struct Claim {
    inner: Arc<Inner>,
    id: String,
}

impl Claim {
    pub(super) fn take(inner: &Arc<Inner>, id: String) -> Result<Self> {
        let mut held = inner.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.insert(id.clone()) {
            return Err(Error::UploadBusy(id));
        }
        drop(held);
        Ok(Self { inner: inner.clone(), id })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
