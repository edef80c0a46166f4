//! Labels and selectors: `site=berlin,env!=test,tier in (a,b),!retired`, as Kubernetes has them.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Longest name or value of a label.
const MAX_TEXT: usize = 63;
/// Longest name, with its prefix.
const MAX_NAME: usize = 253;
/// Most labels of a satellite.
const MAX_LABELS: usize = 64;
/// Most requirements of a selector, and values of one.
const MAX_PARTS: usize = 32;

/// One thing that must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// It has none of these, or is absent.
    NotIn(String, Vec<String>),
    /// It is there.
    Exists(String),
    /// It is not.
    Absent(String),
}

/// Requirements that must all hold; none: everybody is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// Why a text is no selector, or a label none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(String);

impl Selector {
    /// What must hold.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether it chooses a satellite with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|r| match r {
            Requirement::In(name, values) => labels.get(name).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(name, values) => labels.get(name).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(name) => labels.contains_key(name),
            Requirement::Absent(name) => !labels.contains_key(name),
        })
    }
}

impl FromStr for Selector {
    type Err = Bad;

    fn from_str(text: &str) -> Result<Self, Bad> {
        let parts = split(text)?;
        if parts.len() > MAX_PARTS {
            return Err(Bad(format!("a selector has at most {MAX_PARTS} requirements")));
        }
        parts.into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

/// At commas outside of brackets.
fn split(text: &str) -> Result<Vec<&str>, Bad> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            '(' if !open => open = true,
            ')' if open => open = false,
            '(' | ')' => return Err(Bad(format!("brackets do not fit together in {text:?}"))),
            ',' if !open => {
                parts.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(Bad(format!("a bracket is not closed in {text:?}")));
    }
    let last = text[start..].trim();
    if !last.is_empty() || !parts.is_empty() {
        parts.push(last);
    }
    Ok(parts)
}

fn requirement(part: &str) -> Result<Requirement, Bad> {
    let set = |rest: &str| -> Option<Vec<String>> {
        let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|v| v.trim().to_string()).collect())
    };
    let made = if let Some((name, rest)) = part.split_once(" notin ") {
        set(rest).map(|values| Requirement::NotIn(name.trim().into(), values))
    } else if let Some((name, rest)) = part.split_once(" in ") {
        set(rest).map(|values| Requirement::In(name.trim().into(), values))
    } else if let Some((name, value)) = part.split_once("!=") {
        Some(Requirement::NotIn(name.trim().into(), vec![value.trim().into()]))
    } else if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        Some(Requirement::In(name.trim().into(), vec![value.trim().into()]))
    } else if let Some(name) = part.strip_prefix('!') {
        Some(Requirement::Absent(name.trim().into()))
    } else {
        Some(Requirement::Exists(part.into()))
    };
    let expected = || {
        Bad(format!(
            "{part:?} is no requirement: expected name=value, name!=value, name in (a,b), name or !name"
        ))
    };
    let made = made.ok_or_else(expected)?;
    let (name, values) = match &made {
        Requirement::In(n, v) | Requirement::NotIn(n, v) => (n, v.as_slice()),
        Requirement::Exists(n) | Requirement::Absent(n) => (n, [].as_slice()),
    };
    check_name(name)?;
    if values.len() > MAX_PARTS {
        return Err(Bad(format!("a requirement has at most {MAX_PARTS} values")));
    }
    values.iter().try_for_each(|v| check_value(v))?;
    Ok(made)
}

/// Letters, digits, `.`, `_`, `-`, with a letter or digit at both ends.
fn is_word(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric();
    text.bytes().next().is_some_and(good)
        && text.bytes().next_back().is_some_and(good)
        && text.bytes().all(|b| good(b) || matches!(b, b'.' | b'_' | b'-'))
}

fn check_name(name: &str) -> Result<(), Bad> {
    let (prefix, rest) = name.split_once('/').map_or((None, name), |(p, r)| (Some(p), r));
    if name.len() <= MAX_NAME && rest.len() <= MAX_TEXT && is_word(rest) && prefix.is_none_or(is_word) {
        return Ok(());
    }
    Err(Bad(format!(
        "{:?} is no label name: letters, digits, . _ - with a letter or digit at both ends, perhaps after a prefix and /",
        name.chars().take(80).collect::<String>()
    )))
}

fn check_value(value: &str) -> Result<(), Bad> {
    if value.is_empty() || value.len() <= MAX_TEXT && is_word(value) {
        return Ok(());
    }
    Err(Bad(format!(
        "{:?} is no label value: empty, or up to {MAX_TEXT} letters, digits, . _ - with a letter or digit at both ends",
        value.chars().take(80).collect::<String>()
    )))
}

/// Whether labels may be a satellite's.
///
/// # Errors
/// The first that may not.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Bad> {
    if labels.len() > MAX_LABELS {
        return Err(Bad(format!("a satellite has at most {MAX_LABELS} labels")));
    }
    labels.iter().try_for_each(|(name, value)| check_name(name).and_then(|()| check_value(value)))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match r {
                Requirement::In(n, v) if v.len() == 1 => write!(f, "{n}={}", v[0])?,
                Requirement::NotIn(n, v) if v.len() == 1 => write!(f, "{n}!={}", v[0])?,
                Requirement::In(n, v) => write!(f, "{n} in ({})", v.join(","))?,
                Requirement::NotIn(n, v) => write!(f, "{n} notin ({})", v.join(","))?,
                Requirement::Exists(n) => f.write_str(n)?,
                Requirement::Absent(n) => write!(f, "!{n}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn a_selector_chooses_as_kubernetes_does() {
        let berlin = labels(&[("site", "berlin"), ("tier", "a")]);
        for (text, chosen) in [
            ("", true),
            ("site=berlin", true),
            ("site==berlin,tier", true),
            ("site!=berlin", false),
            ("region!=eu", true),
            ("tier in (a, b)", true),
            ("tier notin (a,b)", false),
            ("!retired,site", true),
            ("!site", false),
            ("site=paris", false),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&berlin), chosen, "{text}");
            assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_is_wrong() {
        for text in
            [",", "a=b,", "=x", "a in b", "a in (b", "a)b", "a=b'; DROP TABLE", "a b", "-a=b", "x/y/z"]
        {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_have_the_same_grammar() {
        assert!(check_labels(&labels(&[("example.com/site", "b-1"), ("empty", "")])).is_ok());
        assert!(check_labels(&labels(&[("bad name", "x")])).is_err());
        assert!(check_labels(&labels(&[("x", "<script>")])).is_err());
        let many = (0..65).map(|i| (format!("l{i}"), "v".to_string())).collect();
        assert!(check_labels(&many).is_err());
    }
}
