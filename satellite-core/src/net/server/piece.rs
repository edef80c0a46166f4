//! A run of bytes of a file, read without stopping the thread that serves everyone.

use std::{
    fs::File,
    future::Future,
    io,
    io::IoSliceMut,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_lock::Semaphore;
use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags};

/// How much is looked at, and brought into memory, at once.
const WINDOW: u64 = 1 << 20;
/// One read while bringing a window into memory.
const STEP: usize = 64 << 10;
/// Windows read from disk at once: more would only make a slow card seek, and each holds a thread.
static READERS: Semaphore = Semaphore::new(4);

/// What is left to send of a file.
pub(super) struct Piece {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) left: u64,
    /// Up to here the page cache had it a moment ago.
    resident: u64,
    fetch: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Piece {
    pub(super) fn new(file: Arc<File>, offset: u64, left: u64) -> Self {
        Self { file, offset, left, resident: offset, fetch: None }
    }

    /// Ready when what comes next is, by the look of its ends, in the page cache, so that `sendfile` and `pread`
    /// will not wait for a disk. Where it is not, the pool reads it first. Only a guess is promised.
    pub(super) fn poll_resident(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.offset < self.resident {
            return Poll::Ready(());
        }
        let window = self.left.min(WINDOW);
        let end = self.offset + window;
        if self.fetch.is_none() {
            if window == 0 || (in_memory(&self.file, end - 1) && in_memory(&self.file, self.offset)) {
                self.resident = end;
                return Poll::Ready(());
            }
            let (file, offset) = (Arc::clone(&self.file), self.offset);
            self.fetch = Some(Box::pin(async move {
                let _one = READERS.acquire().await;
                smol::unblock(move || fetch(&file, offset, end)).await;
            }));
        }
        if let Some(fetch) = &mut self.fetch {
            ready!(fetch.as_mut().poll(cx));
        }
        self.fetch = None;
        self.resident = end;
        Poll::Ready(())
    }

    /// Up to `most` bytes, through `bytes`, whose memory is used again once the last ones are gone: an allocator may
    /// give so much back to the system each time. A file that ends early is an error.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<Bytes>> {
        bytes.resize(usize::try_from(self.left).unwrap_or(most).min(most), 0);
        // One call where the page cache has it, as for nearly every manifest.
        let at_once = self.fetch.is_none() && self.offset >= self.resident;
        let n = match at_once.then(|| read_at_once(&self.file, &mut *bytes, self.offset)) {
            Some(Ok(n)) => n,
            _ => {
                ready!(self.poll_resident(cx));
                rustix::io::retry_on_intr(|| rustix::io::pread(&*self.file, &mut bytes[..], self.offset))?
            }
        };
        bytes.truncate(n);
        Poll::Ready(self.advance(n).map(|()| bytes.split().freeze()))
    }

    /// `n` bytes have gone; none means that the file is shorter than promised.
    pub(super) fn advance(&mut self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than promised"));
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(())
    }
}

/// Whether a read of the byte at `offset` would not wait. File systems that cannot tell count as fast.
fn in_memory(file: &File, offset: u64) -> bool {
    read_at_once(file, &mut [0], offset) != Err(Errno::AGAIN)
}

/// Reads what takes no waiting for a disk; `AGAIN` if that is nothing.
fn read_at_once(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
    rustix::io::preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT)
}

/// Reads and forgets, so that the page cache has it. Errors show in the read that follows.
fn fetch(file: &File, mut offset: u64, end: u64) {
    let mut bytes = vec![0; STEP];
    while offset < end {
        let most = usize::try_from(end - offset).unwrap_or(STEP).min(STEP);
        match rustix::io::pread(file, &mut bytes[..most], offset) {
            Ok(n) if n > 0 => offset += n as u64,
            _ => return,
        }
    }
}
