//! Notices whether a client came here for one repository: how it is known that a runtime really uses its mirror.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use satellite_core::{
    net::message::{Handler, Request, Response},
    registry::Registry,
};

/// What is watched for, and whether it was seen.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Looked at by every request; the rest only while this is set.
    on: AtomicBool,
    expected: Mutex<Option<(String, bool)>>,
}

impl Watch {
    /// From now on for this repository, or one that a name rule put a project before; until [`seen`](Self::seen) is asked.
    pub(crate) fn expect(&self, repository: String) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = Some((repository, false));
        self.on.store(true, Relaxed);
    }

    /// Whether a client asked for it since.
    pub(crate) fn seen(&self) -> bool {
        self.on.store(false, Relaxed);
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).take().is_some_and(|(_, seen)| seen)
    }

    fn look(&self, path: &str) {
        if self.on.load(Relaxed)
            && let Some((repository, seen)) =
                self.expected.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            *seen |= path.contains(repository.as_str());
        }
    }
}

/// A registry, watched.
pub(super) struct Watched {
    pub(super) registry: Registry,
    pub(super) watch: Arc<Watch>,
}

impl Handler for Watched {
    // By hand, so that a request costs no second box.
    fn handle<'s, 'f>(&'s self, request: Request) -> Pin<Box<dyn Future<Output = Response> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        self.watch.look(request.uri().path());
        self.registry.handle(request)
    }
}

#[cfg(test)]
mod tests {
    use super::Watch;

    #[test]
    fn what_is_expected_is_seen_under_any_project_and_nothing_else_is() {
        let watch = Watch::default();
        watch.look("/v2/probe/1/manifests/v1");
        assert!(!watch.seen(), "nothing was expected");
        for (path, seen) in [
            ("/v2/probe/1/manifests/v1", true),
            ("/v2/hub/probe/1/manifests/v1", true),
            ("/v2/probe/2/manifests/v1", false),
        ] {
            watch.expect("probe/1".into());
            watch.look(path);
            watch.look("/v2/");
            assert_eq!(watch.seen(), seen, "{path}");
        }
        assert!(!watch.seen(), "it was asked already");
    }
}
