//! A token service as the Distribution specification has it: a name and password for a signed token of some scope.

use crate::certs::openssl;
use crate::http::wire::{Head, find};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A running token service. Dropping it ends it.
#[derive(Debug)]
pub struct TokenService {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    authorization: String,
    expires_in: AtomicI64,
    issued: AtomicUsize,
    scopes: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl TokenService {
    /// Starts one with a key of its own in `dir`, for one user; anybody else gets 401.
    pub fn start(dir: &Path, user: &str, password: &str) -> Self {
        std::fs::create_dir_all(dir).expect("a directory for the key");
        openssl(|command| {
            command.args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "30",
                "-subj",
                "/CN=tokens",
            ]);
            command.arg("-keyout").arg(dir.join("key")).arg("-out").arg(dir.join("crt"));
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on 127.0.0.1");
        let address = listener.local_addr().expect("its number");
        let shared = Arc::new(Shared {
            dir: dir.into(),
            authorization: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            expires_in: AtomicI64::new(300),
            issued: AtomicUsize::new(0),
            scopes: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.stop.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&served);
                std::thread::spawn(move || shared.answer(&stream));
            }
        });
        Self { address, shared }
    }

    /// The `realm` of a challenge that sends clients here.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// The certificate that vouches for its tokens.
    pub fn certificate(&self) -> PathBuf {
        self.shared.dir.join("crt")
    }

    /// Says of later tokens that they live that many seconds (docker-registry itself grants a minute more).
    pub fn expires_in(&self, seconds: i64) {
        self.shared.expires_in.store(seconds, Ordering::Relaxed);
    }

    /// How many tokens were given out.
    pub fn issued(&self) -> usize {
        self.shared.issued.load(Ordering::Relaxed)
    }

    /// Every scope that was asked for.
    pub fn scopes(&self) -> Vec<String> {
        self.shared.scopes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn answer(&self, mut stream: &TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let Ok(Some(head)) = Head::read(&mut BufReader::new(stream)) else { return };
        let known = find(&head.headers, "authorization") == Some(self.authorization.as_str());
        let (status, body) = if known {
            (200, self.token(head.word(1)))
        } else {
            (401, json!({"errors": [{"code": "UNAUTHORIZED", "message": "wrong name or password"}]}))
        };
        let body = body.to_string();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} Said So\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
    }

    fn token(&self, target: &str) -> Value {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let scopes: Vec<String> = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("scope="))
            .flat_map(|value| decode(value).split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
            })
            .collect();
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner).extend(scopes);
        let count = self.issued.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let life = self.expires_in.load(Ordering::Relaxed);
        let claims = json!({
            "iss": "test", "sub": "robot", "aud": "test", "jti": count.to_string(), "access": access,
            "iat": now - 5, "nbf": now - 5, "exp": now.saturating_add_signed(life),
        });
        let token = self.sign(&claims, count);
        json!({"token": token, "expires_in": life})
    }

    fn sign(&self, claims: &Value, count: usize) -> String {
        let pem = std::fs::read_to_string(self.dir.join("crt")).expect("the certificate");
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let (input, output) = (self.dir.join(format!("{count}.txt")), self.dir.join(format!("{count}.sig")));
        std::fs::write(&input, &text).expect("the token's text");
        openssl(|command| {
            command.args(["dgst", "-sha256", "-sign"]).arg(self.dir.join("key"));
            command.arg("-out").arg(&output).arg(&input);
        });
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(std::fs::read(&output).expect("the signature")))
    }
}

/// Undoes percent-encoding, and `+` for a space.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
