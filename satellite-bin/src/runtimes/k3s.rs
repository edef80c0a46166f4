//! `/etc/rancher/k3s/registries.yaml` (RKE2: `/etc/rancher/rke2/…`), read when k3s starts.
//!
//! Comments do not survive writing YAML anew, so lines are put in; the result is read again, and unless it says exactly what
//! was there and the mirror, the file is left alone.

use yaml_rust2::{Yaml, YamlLoader, yaml::Hash};

use super::Error;

fn read(file: &str, text: &str) -> Result<Yaml, Error> {
    let mut documents = YamlLoader::load_from_str(text)
        .map_err(|e| Error::Unparsable { file: file.into(), problem: e.to_string() })?;
    match documents.len() {
        0 => Ok(Yaml::Hash(Hash::new())),
        1 => match documents.remove(0) {
            Yaml::Null => Ok(Yaml::Hash(Hash::new())),
            Yaml::Hash(hash) => Ok(Yaml::Hash(hash)),
            _ => Err(Error::Unparsable { file: file.into(), problem: "it is not a mapping".into() }),
        },
        n => Err(Error::Unparsable { file: file.into(), problem: format!("it has {n} documents") }),
    }
}

/// The file with `url` as the first endpoint of these registries.
pub(super) fn merge(file: &str, before: Option<&str>, hosts: &[String], url: &str) -> Result<String, Error> {
    let before = before.unwrap_or_default();
    let mut text = before.to_string();
    for host in hosts {
        let now = read(file, &text)?;
        let Some(wanted) = with(&now, host, url) else { return Err(by_hand(file, host, url)) };
        if same(&wanted, &now) {
            continue;
        }
        text = insert(&text, &now, host, url);
        if !read(file, &text).is_ok_and(|now| same(&now, &wanted)) {
            return Err(by_hand(file, host, url));
        }
    }
    Ok(text)
}

fn by_hand(file: &str, host: &str, url: &str) -> Error {
    let problem = format!(
        "{url:?} cannot be put into it without writing it anew; add it by hand as the first endpoint of {host}"
    );
    Error::refused(file, problem)
}

/// What the file is to say.
fn with(now: &Yaml, host: &str, url: &str) -> Option<Yaml> {
    let key = |text: &str| Yaml::String(text.into());
    let mut root = now.as_hash()?.clone();
    let hash = |value: Option<&Yaml>| match value {
        None | Some(Yaml::Null) => Some(Hash::new()),
        Some(Yaml::Hash(hash)) => Some(hash.clone()),
        Some(_) => None,
    };
    let mut mirrors = hash(root.get(&key("mirrors")))?;
    let mut mirror = hash(mirrors.get(&key(host)))?;
    let mut endpoints = match mirror.get(&key("endpoint")) {
        None | Some(Yaml::Null) => Vec::new(),
        Some(Yaml::Array(list)) => list.clone(),
        Some(_) => return None,
    };
    if !endpoints.contains(&key(url)) {
        endpoints.insert(0, key(url));
        put(&mut mirror, "endpoint", Yaml::Array(endpoints));
        put(&mut mirrors, host, Yaml::Hash(mirror));
        put(&mut root, "mirrors", Yaml::Hash(mirrors));
    }
    Some(Yaml::Hash(root))
}

/// Keys keep their order, and new ones come where `insert` puts them.
fn put(hash: &mut Hash, key: &str, value: Yaml) {
    let key = Yaml::String(key.into());
    match hash.get_mut(&key) {
        Some(place) => *place = value,
        None => {
            hash.insert(key, value);
        }
    }
}

/// Whether two say the same. The order of keys means nothing in YAML.
fn same(one: &Yaml, other: &Yaml) -> bool {
    match (one, other) {
        (Yaml::Hash(one), Yaml::Hash(other)) => {
            one.len() == other.len() && one.iter().all(|(k, v)| other.get(k).is_some_and(|o| same(v, o)))
        }
        _ => one == other,
    }
}

/// Puts lines in where a file in block style has them; whether that was right is seen by reading it again.
fn insert(text: &str, now: &Yaml, host: &str, url: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    let Some(mirrors) = find(&lines, 0, lines.len(), "mirrors") else {
        lines.push(format!("mirrors:\n  {host:?}:\n    endpoint:\n      - {url:?}"));
        return lines.join("\n") + "\n";
    };
    let end = block_end(&lines, mirrors);
    let step = first_child(&lines, mirrors, end).map_or(2, |n| indent(&lines[n]));
    let pad = " ".repeat(step);
    let known = find(&lines, mirrors + 1, end, host);
    match (known, &now["mirrors"][host]) {
        (Some(at), theirs) => {
            let host_end = block_end(&lines, at).min(end);
            match find(&lines, at + 1, host_end, "endpoint").filter(|_| !theirs["endpoint"].is_badvalue()) {
                Some(endpoint) => match lines[endpoint].find('[') {
                    Some(bracket) => {
                        let comma =
                            if theirs["endpoint"].as_vec().is_none_or(Vec::is_empty) { "" } else { ", " };
                        lines[endpoint].insert_str(bracket + 1, &format!("{url:?}{comma}"));
                    }
                    None => {
                        let item = (endpoint + 1..host_end).find(|n| lines[*n].trim_start().starts_with('-'));
                        let deep = item.map_or(indent(&lines[endpoint]) + 2, |n| indent(&lines[n]));
                        lines.insert(item.unwrap_or(endpoint + 1), format!("{}- {url:?}", " ".repeat(deep)));
                    }
                },
                None => {
                    let deep = first_child(&lines, at, host_end).map_or(step + 2, |n| indent(&lines[n]));
                    lines.insert(at + 1, format!("{}endpoint: [{url:?}]", " ".repeat(deep)));
                }
            }
        }
        (None, _) => {
            lines.insert(mirrors + 1, format!("{pad}{host:?}:\n{pad}  endpoint:\n{pad}    - {url:?}"));
        }
    }
    lines.join("\n") + "\n"
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// The line with this key, at the least depth of the lines from `from` to `to`.
fn find(lines: &[String], from: usize, to: usize, key: &str) -> Option<usize> {
    let content = || (from..to).filter(|n| is_content(&lines[*n]));
    let depth = content().map(|n| indent(&lines[n])).min()?;
    content().filter(|n| indent(&lines[*n]) == depth).find(|n| {
        let line = lines[*n].trim_start();
        [key.to_string(), format!("{key:?}"), format!("'{key}'")]
            .iter()
            .any(|key| line.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with(':')))
    })
}

/// Where what is below a key ends.
fn block_end(lines: &[String], at: usize) -> usize {
    let depth = indent(&lines[at]);
    let next = (at + 1..lines.len()).find(|n| {
        let line = &lines[*n];
        is_content(line)
            && indent(line) <= depth
            && !(indent(line) == depth && line.trim_start().starts_with('-'))
    });
    next.unwrap_or(lines.len())
}

fn first_child(lines: &[String], at: usize, end: usize) -> Option<usize> {
    (at + 1..end).find(|n| is_content(&lines[*n]))
}
