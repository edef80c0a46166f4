//! A store: opened, closed, collected, verified.
#![allow(unsafe_code)]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    path::Path,
    time::Duration,
};

use futures_lite::future::block_on;
use satellite_core::store::{Mend, Options, Store};

use crate::{
    boundary::{aside, prefixed, run, set, text},
    codes::{Failure, SATELLITE_CANCELLED, bad},
    handles::{self, Object, StoreHandle, store},
};

/// In satellite_store_verify: nothing is changed.
pub const SATELLITE_MEND_NOTHING: c_int = 0;
/// Damaged and stray files are set aside: nobody gets them, and replicating their images fetches them again.
pub const SATELLITE_MEND_SET_ASIDE: c_int = 1;
/// Besides, what leads nowhere is removed: tags and manifests whose content is lost.
pub const SATELLITE_MEND_ALL: c_int = 2;

/// How a store is kept. Zero for everything but `size` is right for a gateway.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StoreOptions {
    /// sizeof(struct satellite_store_options).
    pub size: usize,
    /// Most bytes of blobs. 0: as many as the disk has.
    pub cap: u64,
    /// Free bytes of the file system that are never used. 0: 32 MiB.
    pub floor: u64,
    /// Seconds that unreferenced content is safe from satellite_store_gc. 0: an hour.
    pub grace_seconds: u64,
    /// Threads for file work, at most. 0: 8.
    pub threads: u32,
    /// 0.
    pub reserved: u32,
}

impl StoreOptions {
    fn options(&self) -> Options {
        let or = |n: u64, default| if n == 0 { default } else { n };
        let default = Options::default();
        Options {
            cap: (self.cap != 0).then_some(self.cap),
            floor: or(self.floor, default.floor),
            grace: Duration::from_secs(or(self.grace_seconds, default.grace.as_secs())),
            threads: if self.threads == 0 { default.threads } else { self.threads.min(64) as usize },
            ..default
        }
    }
}

/// What a store holds.
#[repr(C)]
pub struct Usage {
    /// Blobs, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes free on the file system.
    pub free: u64,
    /// Bytes that blobs may still take, under the cap and above the floor.
    pub available: u64,
    /// 0.
    pub reserved: [u64; 4],
}

/// Called for each thing that is wrong, on the thread that verifies. Other than 0: no more of them.
pub type FindingCallback = Option<extern "C" fn(context: *mut c_void, finding: *const c_char) -> c_int>;

/// Opens the store in the folder `dir`, or makes one. `options` may be NULL. One process at a time has a store.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_open(
    dir: *const c_char,
    options: *const StoreOptions,
    store: *mut StoreHandle,
) -> c_int {
    run(|| {
        set("store", store, 0)?;
        let dir = text("dir", dir)?;
        if dir.is_empty() {
            return Err(bad("dir is empty"));
        }
        let options = match options.is_null() {
            true => Options::default(),
            false => prefixed("options", options)?.options(),
        };
        let opened = aside(|| Ok(Store::open(Path::new(&dir), options)?))?;
        set("store", store, handles::insert(Object::Store(opened))?)
    })
}

/// Closes a store. Calls on other threads that are using it end as they would have, and a registry over it goes on: the
/// folder is free for another process when the last of them has ended.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_close(store: StoreHandle) -> c_int {
    run(|| {
        let store = handles::take_store(store)?;
        aside(|| {
            let written = block_on(store.refresh_layout());
            drop(store);
            Ok(written?)
        })
    })
}

/// Deletes what nothing refers to and is older than `grace_seconds`; below 0: than the store's own. `freed`, which may
/// be NULL, gets the bytes. Safe at any time, also while the store is served and replicated into.
///
/// Threads: any; a second call meanwhile waits its turn.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_gc(handle: StoreHandle, grace_seconds: i64, freed: *mut u64) -> c_int {
    run(|| {
        let store = store(handle)?;
        let grace = u64::try_from(grace_seconds).ok().map(Duration::from_secs);
        let report = aside(|| Ok(block_on(store.gc(grace))?))?;
        if freed.is_null() { Ok(()) } else { set("freed", freed, report.bytes) }
    })
}

/// Reads every blob and checks every record, and mends as `mend` (SATELLITE_MEND_…) says. `callback`, which may be
/// NULL, is told what is wrong, and `findings`, which may be NULL, gets how many there are.
///
/// Threads: any. Takes as long as reading the whole store.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_verify(
    handle: StoreHandle,
    mend: c_int,
    callback: FindingCallback,
    context: *mut c_void,
    findings: *mut u64,
) -> c_int {
    run(|| {
        let store = store(handle)?;
        let mend = match mend {
            SATELLITE_MEND_NOTHING => Mend::Nothing,
            SATELLITE_MEND_SET_ASIDE => Mend::SetAside,
            SATELLITE_MEND_ALL => Mend::All,
            _ => return Err(bad(format!("mend {mend} is none of SATELLITE_MEND_…"))),
        };
        let report = aside(|| Ok(block_on(store.fsck(mend, |_, _| ()))?))?;
        if !findings.is_null() {
            set("findings", findings, report.findings.len() as u64)?;
        }
        let Some(callback) = callback else { return Ok(()) };
        for finding in report.findings {
            let text = CString::new(finding.to_string()).unwrap_or_default();
            if callback(context, text.as_ptr()) != 0 {
                return Err(Failure(SATELLITE_CANCELLED, "the call-back wanted no more findings".into()));
            }
        }
        Ok(())
    })
}

/// Counts blobs and bytes. Reads the store's folders, so it is not for every second.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn satellite_store_usage(handle: StoreHandle, usage: *mut Usage) -> c_int {
    run(|| {
        let store = store(handle)?;
        let (counted, available) = aside(|| Ok((block_on(store.usage())?, store.available()?)))?;
        let (blobs, bytes, free) = (counted.blobs, counted.bytes, counted.free);
        set("usage", usage, Usage { blobs, bytes, free, available, reserved: [0; 4] })
    })
}
