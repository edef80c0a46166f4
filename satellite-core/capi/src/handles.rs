//! The table of what is open. A handle is a place in it and a generation: no handle is given twice, and one that was
//! closed or made up, or is of another kind of object, is refused.

use std::sync::{Mutex, MutexGuard, PoisonError};

use satellite_core::store::Store;

use crate::codes::{Failure, Outcome, SATELLITE_HANDLE, SATELLITE_SYSTEM};

/// An open store; 0 is none.
pub type StoreHandle = u64;
/// A registry that runs; 0 is none.
pub type ServerHandle = u64;
/// What another thread ends a replication by; 0 is none.
pub type CancelHandle = u64;

/// What a handle may be of.
pub(crate) enum Object {
    Store(Store),
    #[cfg(feature = "replicate")]
    Cancel(crate::cancel::Cancel),
    #[cfg(feature = "serve")]
    Server(crate::serve::Running),
}

struct Slot {
    generation: u32,
    object: Option<Object>,
}

static SLOTS: Mutex<Vec<Slot>> = Mutex::new(Vec::new());
/// Most objects open at a time.
const MAX: usize = 4096;

fn slots() -> MutexGuard<'static, Vec<Slot>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(index: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | index as u64
}

fn place(slots: &mut [Slot], handle: u64) -> Option<&mut Option<Object>> {
    let index = usize::try_from(handle & u64::from(u32::MAX)).ok()?;
    let slot = slots.get_mut(index).filter(|s| u64::from(s.generation) == handle >> 32)?;
    Some(&mut slot.object)
}

fn none(kind: &str, handle: u64) -> Failure {
    Failure(SATELLITE_HANDLE, format!("handle {handle:#x} is not of an open {kind}"))
}

/// A handle for the object, never 0.
pub(crate) fn insert(object: Object) -> Outcome<u64> {
    let mut slots = slots();
    if let Some(index) = slots.iter().position(|s| s.object.is_none() && s.generation < u32::MAX) {
        let slot = &mut slots[index];
        slot.generation += 1;
        slot.object = Some(object);
        return Ok(name(index, slot.generation));
    }
    if slots.len() >= MAX {
        let text = format!("{MAX} handles are open: close some");
        return Err(Failure(SATELLITE_SYSTEM, text));
    }
    slots.push(Slot { generation: 1, object: Some(object) });
    Ok(name(slots.len() - 1, 1))
}

/// What `pick` makes of the object, if it is of that kind.
pub(crate) fn get<T>(kind: &str, handle: u64, pick: impl FnOnce(&Object) -> Option<T>) -> Outcome<T> {
    place(&mut slots(), handle).and_then(|o| pick(o.as_ref()?)).ok_or_else(|| none(kind, handle))
}

/// Takes the object out of the table, if `is` says that it is of that kind.
pub(crate) fn remove(kind: &str, handle: u64, is: impl FnOnce(&Object) -> bool) -> Outcome<Object> {
    let mut slots = slots();
    let object = place(&mut slots, handle).ok_or_else(|| none(kind, handle))?;
    if object.as_ref().is_some_and(is) { object.take() } else { None }.ok_or_else(|| none(kind, handle))
}

/// The open store of that handle.
// The other kinds come with features.
#[allow(irrefutable_let_patterns)]
pub(crate) fn store(handle: StoreHandle) -> Outcome<Store> {
    get("store", handle, |o| if let Object::Store(store) = o { Some(store.clone()) } else { None })
}

/// The same, whose handle is not good any more.
pub(crate) fn take_store(handle: StoreHandle) -> Outcome<Store> {
    match remove("store", handle, |o| matches!(o, Object::Store(_)))? {
        Object::Store(store) => Ok(store),
        #[cfg(any(feature = "serve", feature = "replicate"))]
        _ => Err(none("store", handle)),
    }
}
