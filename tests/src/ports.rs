//! Ports of 127.0.0.1.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A port nobody listens on right now, for programs that cannot choose one themselves and for "refused".
pub fn free() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on 127.0.0.1");
    listener.local_addr().expect("its number").port()
}

/// Waits until somebody accepts connections there.
pub fn wait_open(address: SocketAddr, bound: Duration) {
    crate::wait::until(bound, &format!("a listener on {address}"), || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
    });
}
