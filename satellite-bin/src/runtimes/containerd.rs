//! `/etc/containerd/config.toml`: only to switch `certs.d` on.
//!
//! `config_path` beside the older `registry.mirrors` keeps the CRI plugin from loading, and the node is dead: then it is
//! refused, or all is converted.

use toml_edit::{DocumentMut, Item, Table, value};

use super::{Error, hosts_toml};

/// The host's file.
pub(super) const CONFIG: &str = "/etc/containerd/config.toml";
/// Where `hosts.toml` files are where nothing else is configured.
pub(super) const CERTS_D: &str = "/etc/containerd/certs.d";
const OLD: &str = "io.containerd.grpc.v1.cri";
const NEW: &str = "io.containerd.cri.v1.images";

/// How containerd is configured.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// The file as it is to be; the same as before if `certs.d` is on.
    pub(super) text: String,
    /// The directory of `hosts.toml` files.
    pub(super) certs_d: String,
    /// Hosts with their endpoints that the older form had, if it was converted.
    pub(super) converted: Vec<(String, Vec<String>)>,
}

/// Switches `certs.d` on in a file. `major` is containerd's, where it is known.
pub(super) fn switch_on(before: Option<&str>, major: Option<u32>, convert: bool) -> Result<Config, Error> {
    let text = before.unwrap_or_default();
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| Error::Unparsable {
        file: CONFIG.into(),
        problem: e.to_string().trim_end().into(),
    })?;
    let version = match document.get("version") {
        Some(item) => item.as_integer(),
        None if document.contains_key("plugins") => Some(1),
        None => {
            let version = if major.is_some_and(|m| m >= 2) { 3 } else { 2 };
            document.insert("version", value(version));
            Some(version)
        }
    };
    let plugin = match version {
        Some(2) => OLD,
        Some(3) => NEW,
        _ => {
            let problem =
                "its version is neither 2 nor 3; `containerd config migrate` prints it in a newer one";
            return Err(Error::refused(CONFIG, problem));
        }
    };
    // containerd 2 takes either name in a file of version 2.
    let names = [OLD, NEW];
    let registry = |document: &DocumentMut, name: &str| -> Option<Table> {
        let plugin = document.get("plugins")?.as_table_like()?.get(name)?.as_table_like()?;
        let registry = plugin.get("registry")?.as_table_like()?;
        Some(registry.iter().map(|(k, v)| (k.to_string(), v.clone())).collect())
    };
    let mut converted = Vec::new();
    for name in names {
        let Some(found) = registry(&document, name) else { continue };
        let filled = |key: &str| found.get(key).and_then(Item::as_table_like).filter(|t| !t.is_empty());
        let tls = filled("configs").is_some_and(|configs| {
            configs.iter().any(|(_, c)| c.as_table_like().is_some_and(|c| c.contains_key("tls")))
        });
        if tls {
            let problem = "registry.configs has tls, which must not stand beside config_path: move it into hosts.toml files \
                           of certs.d, then try again";
            return Err(Error::refused(CONFIG, problem));
        }
        if let Some(mirrors) = filled("mirrors") {
            if !convert {
                let problem = "it has the older registry.mirrors, and config_path beside them stops the CRI plugin: convert \
                               them (--convert-legacy)";
                return Err(Error::refused(CONFIG, problem));
            }
            for (host, mirror) in mirrors.iter() {
                let list = mirror.as_table_like().and_then(|m| m.get("endpoint")).and_then(Item::as_array);
                let endpoints: Option<Vec<String>> = list.map(|l| {
                    l.iter()
                        .filter_map(|v| v.as_str())
                        .filter(|url| url.contains("://"))
                        .map(Into::into)
                        .collect()
                });
                let all = list.map_or(0, toml_edit::Array::len);
                match endpoints.filter(|e| e.len() == all) {
                    Some(endpoints) => {
                        let host = if host == "*" { "_default" } else { host };
                        converted.push((host.to_string(), endpoints));
                    }
                    None => {
                        let problem =
                            format!("registry.mirrors of {host} is not a list of URLs; convert it by hand");
                        return Err(Error::refused(CONFIG, problem));
                    }
                }
            }
            if let Some(registry) = document["plugins"][name]["registry"].as_table_like_mut() {
                registry.remove("mirrors");
            }
        }
        if let Some(path) = found.get("config_path").and_then(Item::as_str).filter(|p| !p.is_empty()) {
            let certs_d = path.split(':').next().unwrap_or(path).to_string();
            return Ok(Config { text: document.to_string(), certs_d, converted });
        }
    }
    set(&mut document, plugin)?;
    let text = document.to_string();
    if text.parse::<DocumentMut>().is_err() {
        return Err(Error::refused(CONFIG, "config_path does not fit into it; set it by hand"));
    }
    Ok(Config { text, certs_d: CERTS_D.into(), converted })
}

/// Makes the tables on the way, and sets the key.
fn set(document: &mut DocumentMut, plugin: &str) -> Result<(), Error> {
    let mut at: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for name in ["plugins", plugin, "registry"] {
        let item = at.entry(name).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        at = item
            .as_table_like_mut()
            .ok_or_else(|| Error::refused(CONFIG, format!("{name} is not a table; mend it")))?;
    }
    at.insert("config_path", value(CERTS_D));
    Ok(())
}

/// The file of a registry.
pub(super) fn hosts_file(certs_d: &str, host: &str) -> String {
    format!("{}/{}/hosts.toml", certs_d.trim_end_matches('/'), hosts_toml::directory(host))
}

/// Where the file of a registry is, if the admin spelled its port's colon in the other way.
pub(super) fn other_hosts_file(certs_d: &str, host: &str) -> Option<String> {
    let (name, port) = host.rsplit_once(':')?;
    Some(format!("{}/{name}_{port}_/hosts.toml", certs_d.trim_end_matches('/')))
}
