//! Where lines go: the bare JSON to a file, RFC 5424 to syslog.

use std::{
    io::{self, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use super::rotated::Rotated;
use crate::agent::settings::{AuditTarget, Syslog};

/// Facility local0.
const FACILITY: u8 = 16 << 3;
/// Longest wait for a syslog server.
const PATIENCE: Duration = Duration::from_secs(2);

/// An open destination.
pub(super) struct Sink {
    tag: String,
    kind: Kind,
}

enum Kind {
    File(Rotated),
    Daemon(PathBuf, UnixDatagram),
    Udp(UdpSocket),
    Tcp(String, Option<TcpStream>),
}

impl Sink {
    pub(super) fn open(settings: &Syslog) -> io::Result<Self> {
        let kind = match &settings.target {
            AuditTarget::File { path, max_size, max_backups, max_age_days, compress } => {
                Kind::File(Rotated::open(path, *max_size, *max_backups, *max_age_days, *compress)?)
            }
            AuditTarget::Daemon { socket } => Kind::Daemon(socket.clone(), daemon(socket)?),
            AuditTarget::Network { tcp: true, address } => {
                Kind::Tcp(address.clone(), Some(connect(address)?))
            }
            AuditTarget::Network { tcp: false, address } => {
                let peer = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.connect(peer)?;
                Kind::Udp(socket)
            }
        };
        // The grammar of RFC 5424: 1 to 48 printable characters.
        let tag: String = settings.tag.chars().filter(char::is_ascii_graphic).take(48).collect();
        Ok(Self { tag: if tag.is_empty() { "-".into() } else { tag }, kind })
    }

    pub(super) fn write(&mut self, line: &str, at: Timestamp) -> io::Result<()> {
        let framed = || {
            let severity = if line.contains(r#""outcome":"failure""#) { 4 } else { 6 };
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let (tag, pid) = (&self.tag, std::process::id());
            format!("<{}>1 {at:.6} {host} {tag} {pid} - - {line}\n", FACILITY + severity)
        };
        match &mut self.kind {
            Kind::File(file) => file.write(line, at),
            Kind::Daemon(path, socket) => {
                let message = framed();
                // The daemon may have been started again.
                socket.send(message.as_bytes()).or_else(|_| {
                    *socket = daemon(path)?;
                    socket.send(message.as_bytes())
                })?;
                Ok(())
            }
            Kind::Udp(socket) => socket.send(framed().as_bytes()).map(drop),
            Kind::Tcp(address, stream) => {
                let message = framed();
                let sent = stream.as_mut().map(|s| s.write_all(message.as_bytes()));
                if let Some(Ok(())) = sent {
                    return Ok(());
                }
                *stream = None;
                let mut next = connect(address)?;
                next.write_all(message.as_bytes())?;
                *stream = Some(next);
                Ok(())
            }
        }
    }
}

fn daemon(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    socket.connect(path).map_err(named)?;
    Ok(socket)
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address}: no such address"));
    for peer in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&peer, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(e) => last = io::Error::new(e.kind(), format!("{address}: {e}")),
        }
    }
    Err(last)
}
