//! `certs.d/HOST/hosts.toml`, read at every pull by containerd, and by Docker 28 with the containerd store.
//!
//! Hosts are tried in the order of the file, so ours goes first. What the admin wrote keeps every byte.

use std::fmt::Write as _;

use toml_edit::{Document, Item, Table};

use super::{Error, wish::Mirror};

/// The address behind a registry's name: what a runtime itself would ask.
fn server(host: &str) -> String {
    match host {
        "docker.io" => "https://registry-1.docker.io".into(),
        _ => format!("https://{host}"),
    }
}

/// The directory of a registry below `certs.d`.
pub(super) fn directory(host: &str) -> &str {
    host
}

/// A host that is asked.
pub(super) struct Entry<'a> {
    pub(super) url: &'a str,
    pub(super) ca: Option<&'a str>,
    /// Newer containerd gives a host up that does not take the connection in this time; older ignores it.
    pub(super) dial_timeout: bool,
}

impl<'a> Entry<'a> {
    pub(super) fn of(url: &'a str, mirror: &'a Mirror) -> Self {
        Self { url, ca: mirror.ca.as_deref().and_then(|p| p.to_str()), dial_timeout: true }
    }

    fn text(&self) -> String {
        let quote = |text: &str| toml_edit::Value::from(text).to_string();
        let mut text = format!("[host.{}]\n  capabilities = [\"pull\", \"resolve\"]\n", quote(self.url));
        if let Some(ca) = self.ca {
            let _ = writeln!(text, "  ca = {}", quote(ca));
        }
        if self.dial_timeout {
            text += "  dial_timeout = \"1s\"\n";
        }
        text
    }
}

/// The file with `entries` as its first hosts. `before`: what is there.
pub(super) fn merge(
    file: &str,
    before: Option<&str>,
    host: &str,
    entries: &[Entry<'_>],
) -> Result<String, Error> {
    let Some(before) = before else {
        let mut text = "# Written by satellite; `satellite runtimes revert` removes it.\n".to_string();
        if host != "_default" {
            let _ = writeln!(text, "server = \"{}\"", server(host));
        }
        for entry in entries {
            let _ = write!(text, "\n{}", entry.text());
        }
        return Ok(text);
    };
    let document = Document::parse(before)
        .map_err(|e| Error::Unparsable { file: file.into(), problem: e.to_string().trim_end().into() })?;
    let refuse = |what: &str| {
        Error::refused(file, format!("{what}: write each host as a table [host.\"URL\"] of its own"))
    };
    let empty = Table::new();
    let hosts = match document.get("host") {
        None => &empty,
        Some(Item::Table(table)) if !table.is_dotted() => table,
        Some(_) => return Err(refuse("its hosts are not tables")),
    };
    let mut at = before.len();
    for (name, item) in hosts {
        let span = match item {
            Item::Table(table) if !table.is_dotted() => table.span(),
            _ => None,
        };
        at = at.min(span.ok_or_else(|| refuse(&format!("host {name} is not a table")))?.start);
    }
    let missing: Vec<_> = entries.iter().filter(|e| !hosts.contains_key(e.url)).collect();
    if missing.is_empty() {
        return Ok(before.to_string());
    }
    let at = above(before, at);
    let ours: String = missing.iter().map(|e| e.text() + "\n").collect();
    let gap = if at == before.len() && !before.is_empty() && !before.ends_with('\n') { "\n" } else { "" };
    let after = format!("{}{gap}{ours}{}", &before[..at], &before[at..]);
    check(file, &after, &missing)?;
    Ok(after)
}

/// The start of the lines of comment that belong to what begins at `at`.
fn above(text: &str, at: usize) -> usize {
    let mut start = if at == text.len() { at } else { text[..at].rfind('\n').map_or(0, |n| n + 1) };
    while start > 0 && start < text.len() {
        let line = text[..start - 1].rfind('\n').map_or(0, |n| n + 1);
        if !text[line..start].trim_start().starts_with('#') {
            break;
        }
        start = line;
    }
    start
}

/// What is written is read again: a file that does not parse is ignored as a whole, without a word to whoever pulls.
fn check(file: &str, text: &str, entries: &[&Entry<'_>]) -> Result<(), Error> {
    let document = Document::parse(text);
    let host = document.as_ref().ok().and_then(|d| d.get("host")).and_then(Item::as_table);
    let first: Vec<_> =
        host.into_iter().flat_map(Table::iter).map(|(name, _)| name).take(entries.len()).collect();
    if host.is_some_and(|h| entries.iter().all(|e| h.contains_key(e.url))) && !first.is_empty() {
        return Ok(());
    }
    Err(Error::refused(file, "the satellite's lines do not fit into it; add a table [host.\"URL\"] by hand"))
}
