//! One connection: requests one after another, or bytes as one likes.

use super::wire::{self, Head};
use super::{Body, Request, Response};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub(super) fn open(address: SocketAddr, bound: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, bound)?;
        stream.set_read_timeout(Some(bound))?;
        stream.set_write_timeout(Some(bound))?;
        stream.set_nodelay(true)?;
        let reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        Ok(Self { stream, reader, host: address.to_string() })
    }

    /// Sends a request and reads the answer with its body.
    ///
    /// # Errors
    /// Those of the socket, unless an answer came all the same: a server may answer before it has read everything.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        let written = self.write_request(request);
        match (self.read_response(&request.method), written) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends a request's head and body.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn write_request(&mut self, request: &Request) -> io::Result<()> {
        let mut head =
            Head { first: format!("{} {} HTTP/1.1", request.method, request.target), headers: Vec::new() };
        if wire::find(&request.headers, "host").is_none() {
            head.headers.push(("Host".into(), self.host.clone()));
        }
        head.headers.extend(request.headers.iter().cloned());
        match &request.body {
            Body::None => self.write(&head.bytes()),
            Body::Bytes(bytes) => {
                head.set("Content-Length", &bytes.len().to_string());
                self.write(&head.bytes())?;
                self.write(bytes)
            }
            Body::Chunked(pieces) => {
                head.set("Transfer-Encoding", "chunked");
                self.write(&head.bytes())?;
                for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                    self.write(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    self.write(piece)?;
                    self.write(b"\r\n")?;
                }
                self.write(b"0\r\n\r\n")
            }
            Body::Cut { announced, sent } => {
                head.set("Content-Length", &announced.to_string());
                self.write(&head.bytes())?;
                self.write(sent)?;
                self.finish();
                Ok(())
            }
        }
    }

    /// Reads an answer to a request of that method; interim answers are passed over.
    ///
    /// # Errors
    /// Those of the socket, and its end before a head was complete.
    pub fn read_response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.read_head()?;
        let head = Head { first: String::new(), headers: response.headers.clone() };
        let empty = method == "HEAD" || matches!(response.status, 204 | 304);
        response.whole = if empty {
            true
        } else if head.chunked() {
            wire::chunks(&mut self.reader, &mut response.body)?
        } else if let Some(length) = head.length() {
            self.read_body(length, &mut response.body)?;
            response.body.len() as u64 == length
        } else {
            self.reader.read_to_end(&mut response.body)?;
            true
        };
        Ok(response)
    }

    /// Reads an answer's head alone; its body can be read by [`Self::read_body`], or left.
    ///
    /// # Errors
    /// Those of the socket, and its end before the head was complete.
    pub fn read_head(&mut self) -> io::Result<Response> {
        loop {
            let head = Head::read(&mut self.reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.word(1).parse().map_err(|_| io::ErrorKind::InvalidData)?;
            if (100..200).contains(&status) {
                continue;
            }
            return Ok(Response { status, headers: head.headers, body: Vec::new(), whole: false });
        }
    }

    /// Reads up to `length` bytes of a body, fewer if the connection ends (also when it is reset).
    ///
    /// # Errors
    /// The bound that was set for a read.
    pub fn read_body(&mut self, length: u64, into: &mut Vec<u8>) -> io::Result<()> {
        match self.reader.by_ref().take(length).read_to_end(into) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(()),
        }
    }
}
