//! `/etc/containers/registries.conf.d/50-satellite.conf`, read by Podman, Buildah, Skopeo and CRI-O.
//!
//! A table of a drop-in takes the place of another file's table of the same prefix whole, so ours hold what the admin's say,
//! with our mirror before theirs.

use std::collections::BTreeMap;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{Error, wish::Mirror};

/// The admin's main file.
pub(super) const MAIN: &str = "/etc/containers/registries.conf";
/// Drop-ins, which apply in the order of their names.
pub(super) const DROP_INS: &str = "/etc/containers/registries.conf.d";
/// Our own.
pub(super) const OURS: &str = "50-satellite.conf";
/// Registries' certificates.
pub(super) const CERTS_D: &str = "/etc/containers/certs.d";

/// A file of the admin's, by its path.
pub(super) type File = (String, String);

/// The drop-in for these registries. `files`: the main one, then the drop-ins by name, without ours.
pub(super) fn drop_in(
    files: &[File],
    upstreams: &[String],
    mirror: &Mirror,
    offline: bool,
) -> Result<String, Error> {
    let mut known: BTreeMap<String, Table> = BTreeMap::new();
    for (file, text) in files {
        let later = file.rsplit('/').next().is_some_and(|name| file.starts_with(DROP_INS) && name > OURS);
        for (prefix, table) in tables(file, text)? {
            let ours = upstreams.iter().any(|host| is_of(&prefix, host));
            if later && ours {
                let problem = format!(
                    "it comes after {OURS} and would hide what that says of {prefix}: give it a name before"
                );
                return Err(Error::refused(file, problem));
            }
            known.insert(prefix, table);
        }
    }
    let mut written = ArrayOfTables::new();
    for host in upstreams {
        let mut of_host: Vec<(String, Table)> = known
            .iter()
            .filter(|(prefix, _)| is_of(prefix, host))
            .map(|(p, t)| (p.clone(), t.clone()))
            .collect();
        if !known.contains_key(host) {
            let mut table = Table::new();
            table.insert("prefix", value(host));
            table.insert("location", value(host));
            of_host.push((host.clone(), table));
        }
        for (prefix, mut table) in of_host {
            table.set_position(None);
            let mut mirrors = ArrayOfTables::new();
            let mut ours = Table::new();
            ours.insert("location", value(format!("{}/{prefix}", mirror.address())));
            if mirror.is_plain() {
                ours.insert("insecure", value(true));
            }
            mirrors.push(ours);
            for mut theirs in table.remove("mirror").map(array).unwrap_or_default().into_iter() {
                theirs.set_position(None);
                mirrors.push(theirs);
            }
            if offline {
                table.insert("blocked", value(true));
            }
            table.insert("mirror", Item::ArrayOfTables(mirrors));
            written.push(table);
        }
    }
    let mut document = DocumentMut::new();
    document.insert("registry", Item::ArrayOfTables(written));
    let text = format!("# Written by satellite; `satellite runtimes revert` removes it.\n{document}");
    // One file that does not parse breaks every pull of every tool on the host.
    let own = format!("{DROP_INS}/{OURS}");
    tables(&own, &text)?;
    Ok(text)
}

/// Whether a prefix is a registry, or part of it.
fn is_of(prefix: &str, host: &str) -> bool {
    prefix.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The tables of a file by their prefix.
fn tables(file: &str, text: &str) -> Result<Vec<(String, Table)>, Error> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| Error::Unparsable {
        file: file.into(),
        problem: e.to_string().trim_end().into(),
    })?;
    let found = document.remove("registry").map(array).unwrap_or_default();
    let text = |table: &Table, key: &str| table.get(key).and_then(Item::as_str).map(str::to_string);
    let named = found.into_iter().filter_map(|t| {
        let prefix = text(&t, "prefix").filter(|p| !p.is_empty()).or_else(|| text(&t, "location"))?;
        Some((prefix, t))
    });
    Ok(named.collect())
}

/// Tables, whether written as such or inline.
fn array(item: Item) -> ArrayOfTables {
    item.into_array_of_tables().unwrap_or_default()
}
