//! A line between a client and a server that counts bytes and can be cut, without a word of what goes over it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::wait;

/// A line. Dropping it ends it.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    /// Bytes stay where they are, as on a link that went away.
    cut: Mutex<bool>,
    mended: Condvar,
    /// Bytes per second of each connection and direction; 0 is no limit.
    rate: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Wire {
    /// A line to `server`.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let line = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if line.ended.load(Relaxed) {
                    return;
                }
                line.connect(client, server);
            }
        });
        Self { address, shared }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that clients sent, bytes that they got, connections.
    pub fn counts(&self) -> (u64, u64, u64) {
        let Shared { up, down, connections, .. } = &*self.shared;
        (up.load(Relaxed), down.load(Relaxed), connections.load(Relaxed))
    }

    /// Limits each connection to that many bytes per second. With less than its client takes, next to nothing is under way.
    pub fn limit(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Relaxed);
    }

    /// From now on nothing comes through: whoever is connected hears nothing, neither does who connects.
    pub fn cut(&self) {
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Mended. As after a long time without, connections that were open then are gone.
    pub fn mend(&self) {
        self.shared.hang_up();
        self.shared.join();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        self.shared.hang_up();
        self.shared.join();
        // The listener looks.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream, server: SocketAddr) {
        self.connections.fetch_add(1, Relaxed);
        let Ok(server) = TcpStream::connect(server) else { return };
        let copies = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
        let (Some((a, b)), Some(keep)) = (copies(), copies()) else { return };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend([keep.0, keep.1]);
        for (from, to, up) in [(client, b, true), (server, a, false)] {
            let line = Arc::clone(self);
            std::thread::spawn(move || line.carry(from, to, up));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, up: bool) {
        let mut piece = vec![0; 16 << 10];
        loop {
            let n = from.read(&mut piece).unwrap_or(0);
            let begin = Instant::now();
            let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.mended.wait_while(cut, |cut| *cut));
            if n == 0 || to.write_all(&piece[..n]).is_err() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let count = if up { &self.up } else { &self.down };
            count.fetch_add(n as u64, Relaxed);
            wait::pace(self.rate.load(Relaxed), begin, n as u64);
        }
    }

    /// Lets go on what waits for the end of a cut.
    fn join(&self) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.mended.notify_all();
    }

    fn hang_up(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
