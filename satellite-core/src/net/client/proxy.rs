//! Which proxy serves which target. Pure but for reading the environment.

use std::{fmt, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use url::Url;

/// An HTTP proxy. Its password shows in no output.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// Port; 80 where the URL has none, as with curl's `http_proxy`.
    pub port: u16,
    /// Value of `Proxy-Authorization` (RFC 9110 §11.7.2).
    pub(super) authorization: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`; the scheme may be missing.
    /// `None` for anything else, SOCKS and TLS to the proxy included.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let full = if text.contains("://") { text.to_string() } else { format!("http://{text}") };
        let url = Url::parse(&full).ok().filter(|u| u.scheme() == "http")?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_string();
        let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let user = decode(url.username());
        let authorization = (!user.is_empty()).then(|| {
            let password = url.password().map(decode).unwrap_or_default();
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        });
        Some(Self { host, port: url.port().unwrap_or(80), authorization })
    }
}

/// Proxies per scheme of the target, and the targets reached without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// For `http` targets, asked in absolute form (RFC 9112 §3.2.2).
    pub http: Option<Proxy>,
    /// For `https` targets, through a CONNECT tunnel (RFC 9110 §9.3.6).
    pub https: Option<Proxy>,
    /// Comma-separated exceptions: `*`, `host`, `.domain`, `host:port`, addresses, networks as `10.0.0.0/8`.
    /// `example.com` covers what is below it. Loopback never goes through a proxy.
    pub no_proxy: String,
}

impl ProxySettings {
    /// From `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`; the lower-case name wins. What cannot be used is
    /// logged and left out.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), from any table of variables.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            let set = |n: &str| var(n).filter(|v| !v.trim().is_empty());
            set(&name.to_ascii_lowercase()).or_else(|| {
                // Under CGI a request's `Proxy` header arrives as HTTP_PROXY (CVE-2016-5385).
                let hostile = name == "HTTP_PROXY" && var("REQUEST_METHOD").is_some();
                if hostile { None } else { set(name) }
            })
        };
        let proxy = |name: &str| {
            let text = either(name)?;
            let parsed = Proxy::parse(&text);
            if parsed.is_none() {
                // Its value may hold a password.
                log::warn!(variable = name; "ignoring a proxy that is not http://HOST:PORT");
            }
            parsed
        };
        let all = proxy("ALL_PROXY");
        Self {
            http: proxy("HTTP_PROXY").or_else(|| all.clone()),
            https: proxy("HTTPS_PROXY").or(all),
            no_proxy: either("NO_PROXY").unwrap_or_default(),
        }
    }

    /// The proxy for a target, if it needs one.
    pub fn select(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() }?;
        (!self.is_exempt(host, port)).then_some(proxy)
    }

    fn is_exempt(&self, host: &str, port: u16) -> bool {
        let host =
            host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
            return true;
        }
        self.no_proxy.split([',', ' ']).map(str::trim).filter(|e| !e.is_empty()).any(|entry| {
            let entry = entry.to_ascii_lowercase();
            entry == "*" || matches(&entry, &host, address, port)
        })
    }
}

fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        return in_network(network, bits, address).unwrap_or(false);
    }
    // A bare IPv6 address is full of colons and has no port.
    let (name, entry_port) = match (entry.parse::<IpAddr>(), entry.rsplit_once(':')) {
        (Err(_), Some((name, p))) if p.bytes().all(|b| b.is_ascii_digit()) => (name, p.parse::<u16>().ok()),
        _ => (entry, None),
    };
    if entry_port.is_some_and(|p| p != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    if let Ok(wanted) = name.parse::<IpAddr>() {
        return address == Some(wanted);
    }
    let name = name.strip_prefix("*.").map_or(name, |_| &name[1..]);
    match name.strip_prefix('.') {
        Some(domain) => !domain.is_empty() && is_below(host, domain),
        None => host == name || is_below(host, name),
    }
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

fn in_network(network: &str, bits: &str, address: IpAddr) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    Some(match (network.parse().ok()?, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            (n.to_bits() ^ a.to_bits()) & mask == 0
        }
        (IpAddr::V6(n), IpAddr::V6(a)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            (n.to_bits() ^ a.to_bits()) & mask == 0
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn exceptions_cover_what_their_text_says() {
        let table: &[(&str, &str, u16, bool)] = &[
            ("", "harbor.example", 443, false),
            ("", "localhost", 443, true),
            ("", "127.8.0.1", 80, true),
            ("", "::1", 80, true),
            ("*", "harbor.example", 443, true),
            ("example", "harbor.example", 443, true),
            ("harbor.example", "HARBOR.example.", 443, true),
            ("harbor.example", "a.harbor.example", 443, true),
            ("harbor.example", "notharbor.example", 443, false),
            (".example", "example", 443, false),
            (".example", "harbor.example", 443, true),
            ("*.example", "harbor.example", 443, true),
            ("harbor.example:5000", "harbor.example", 5000, true),
            ("harbor.example:5000", "harbor.example", 443, false),
            ("10.0.0.0/8", "10.9.8.7", 443, true),
            ("10.0.0.0/8", "11.9.8.7", 443, false),
            ("0.0.0.0/0", "11.9.8.7", 443, true),
            ("10.0.0.0/99", "10.9.8.7", 443, false),
            ("fd00::/8", "[fd12::1]", 443, true),
            ("fd00::1", "fd00::1", 443, true),
            ("fd00::1", "fd00::2", 443, false),
            ("192.168.1.1", "192.168.1.1", 443, true),
            ("192.168.1.1", "192.168.1.10", 443, false),
            ("a, b ,harbor.example", "harbor.example", 443, true),
        ];
        for (no_proxy, host, port, exempt) in table {
            let settings = ProxySettings {
                https: Proxy::parse("proxy:3128"),
                no_proxy: (*no_proxy).to_string(),
                ..ProxySettings::default()
            };
            assert_eq!(settings.select(true, host, *port).is_none(), *exempt, "{no_proxy} {host}:{port}");
        }
    }

    #[test]
    fn the_environment_names_proxies_in_either_case() {
        let from = |vars: &'static [(&str, &str)]| {
            ProxySettings::from_vars(|n| vars.iter().find(|v| v.0 == n).map(|v| v.1.to_string()))
        };
        let both = from(&[("HTTP_PROXY", "http://up:1"), ("http_proxy", "low:2"), ("NO_PROXY", "a")]);
        assert_eq!(both.http.unwrap().port, 2);
        assert_eq!(both.https, None);
        assert_eq!(both.no_proxy, "a");
        let all = from(&[("ALL_PROXY", "p"), ("HTTPS_PROXY", "http://s:8443/")]);
        assert_eq!((all.http.unwrap().port, all.https.unwrap().port), (80, 8443));
        assert_eq!(from(&[("ALL_PROXY", "socks5://p:1080")]), ProxySettings::default());
        assert_eq!(from(&[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")]).http, None);
    }

    #[test]
    fn a_proxys_password_is_sent_and_not_shown() {
        let proxy = Proxy::parse("http://user:p%40ss@[::1]:3128").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("::1", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert_eq!(format!("{proxy:?}"), "Proxy(::1:3128)");
    }
}
