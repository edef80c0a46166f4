//! How a file reaches a socket through hyper without passing through this process.
//!
//! hyper counts and frames bodies, and hands slices to the socket. So the body puts the file into the
//! connection's [`Slot`] and gives hyper a [`Data::File`], whose bytes are slices of a stand-in that nobody reads;
//! the connection's writer knows the stand-in by its address and calls [`Slot::send`] instead of `write`.
//! This holds as long as hyper never copies a body: its write buffer must queue, not flatten.

use std::{
    cell::UnsafeCell,
    io,
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};

use super::{gate::Pass, piece::Piece};

const LEN: usize = 1 << 20;

/// Never written, and read only by a mistake that [`is_stand_in`] prevents. The cell keeps it out of the
/// executable (.bss instead of .rodata), and without a touch it takes no memory.
struct StandIn(UnsafeCell<[u8; LEN]>);

// SAFETY: nothing ever gets a mutable reference or pointer to the inside, so sharing it is sharing constants.
#[allow(unsafe_code)]
unsafe impl Sync for StandIn {}

static STAND_IN: StandIn = StandIn(UnsafeCell::new([0; LEN]));

#[allow(unsafe_code)]
fn stand_in() -> &'static [u8; LEN] {
    // SAFETY: valid for the whole run, and never written (see above).
    unsafe { &*STAND_IN.0.get() }
}

/// Whether the bytes of a file are meant.
pub(super) fn is_stand_in(slice: &[u8]) -> bool {
    stand_in().as_ptr_range().contains(&slice.as_ptr())
}

/// What hyper is given of a body.
pub(super) enum Data {
    /// The bytes themselves, and the permission to hold them in memory.
    Bytes(Bytes, #[allow(dead_code, reason = "held until the bytes are gone")] Option<Pass>),
    /// So many bytes of the file in the connection's [`Slot`].
    File(usize),
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes, _) => bytes.len(),
            Self::File(left) => *left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes, _) => bytes,
            Self::File(left) => &stand_in()[..LEN.min(*left)],
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Self::Bytes(bytes, _) => bytes.advance(n),
            Self::File(left) => *left -= n,
        }
    }
}

/// The file that a connection is sending. One is enough: hyper begins an answer after it has handed on the whole
/// one before.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Piece>>);

impl Slot {
    /// From now on the stand-in means `piece`.
    pub(super) fn put(&self, piece: Piece) {
        let before = self.lock().replace(piece);
        debug_assert!(before.is_none(), "the file before was not sent whole");
    }

    /// Like [`Piece::poll_resident`].
    pub(super) fn poll_resident(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.lock().as_mut().map_or(Poll::Ready(()), |piece| piece.poll_resident(cx))
    }

    /// Sends up to `most` bytes of the file. A stand-in without a file behind it, or a file that is shorter than
    /// promised, is an error: the connection ends, and no byte is made up.
    pub(super) fn send(&self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let mut slot = self.lock();
        let Some(piece) = slot.as_mut() else {
            debug_assert!(false, "a stand-in without a file");
            return Err(io::Error::other("a stand-in without a file"));
        };
        let most = usize::try_from(piece.left).unwrap_or(most).min(most);
        let mut offset = piece.offset;
        let n = rustix::fs::sendfile(socket, &*piece.file, Some(&mut offset), most)?;
        piece.advance(n)?;
        if piece.left == 0 {
            *slot = None;
        }
        Ok(n)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
