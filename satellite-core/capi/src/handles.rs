//! Open stores by number: the index of a slot below, its generation above.

use std::sync::{Mutex, MutexGuard, PoisonError};

use satellite_core::store::Store;

struct Slot {
    generation: u32,
    store: Option<Store>,
}

static SLOTS: Mutex<Vec<Slot>> = Mutex::new(Vec::new());
/// Most stores open at a time.
const MAX: usize = 1024;

fn slots() -> MutexGuard<'static, Vec<Slot>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(index: usize, generation: u32) -> u64 {
    u64::from(generation) << 32 | index as u64
}

/// A number for the store, never 0; `None` if too many are open.
pub(crate) fn insert(store: Store) -> Option<u64> {
    let mut slots = slots();
    if let Some(index) = slots.iter().position(|s| s.store.is_none() && s.generation < u32::MAX) {
        let slot = &mut slots[index];
        slot.generation += 1;
        slot.store = Some(store);
        return Some(name(index, slot.generation));
    }
    if slots.len() >= MAX {
        return None;
    }
    slots.push(Slot { generation: 1, store: Some(store) });
    Some(name(slots.len() - 1, 1))
}

fn find(slots: &mut [Slot], handle: u64) -> Option<&mut Slot> {
    let index = usize::try_from(handle & u64::from(u32::MAX)).ok()?;
    slots.get_mut(index).filter(|s| u64::from(s.generation) == handle >> 32)
}

/// The store of that number, if it is open.
pub(crate) fn get(handle: u64) -> Option<Store> {
    find(&mut slots(), handle)?.store.clone()
}

/// Takes the store of that number out of the table.
pub(crate) fn remove(handle: u64) -> Option<Store> {
    find(&mut slots(), handle)?.store.take()
}
