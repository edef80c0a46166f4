//! Under which of the registry's own names an image is that clients ask for by its origin: `docker.io/library/nginx`,
//! replicated as `dockerhub/library/nginx`. Rules are applied here alone, on lookup; nothing is renamed.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use crate::oci::{Repository, canonical_host};

/// Most rules of a registry.
pub const MAX_RULES: usize = 1000;

/// Why rules cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// Not `HOST[/PREFIX]=PROJECT[/PREFIX]`.
    #[error(
        "{0:?} is not a rule: write HOST[/PREFIX]=PROJECT[/PREFIX], as in docker.io=dockerhub, or HOST[/PREFIX]=* for the \
         same name"
    )]
    Rule(String),
    /// Two targets for one origin.
    #[error("two rules for {from}: to {first} and to {second}; leave one")]
    Ambiguous {
        /// The origin that both name.
        from: String,
        /// Where the first leads.
        first: String,
        /// Where the second leads.
        second: String,
    },
    /// Too many.
    #[error("{0} rules for names, {MAX_RULES} are the most")]
    TooMany(usize),
}

/// What is asked for as `HOST/PREFIX/…` is here as `PROJECT/PREFIX/…`; with `*` under the very name, less the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    host: String,
    /// Whole components; `None`: all of the host.
    prefix: Option<Repository>,
    /// `None`: the same name.
    to: Option<Repository>,
}

impl FromStr for Rule {
    type Err = NamesError;

    fn from_str(text: &str) -> Result<Self, NamesError> {
        let wrong = || NamesError::Rule(text.chars().take(300).collect());
        let (from, to) = text.split_once('=').ok_or_else(wrong)?;
        let (host, prefix) = from.split_once('/').map_or((from, None), |(host, rest)| (host, Some(rest)));
        Ok(Self {
            host: canonical_host(host).ok_or_else(wrong)?,
            prefix: prefix.map(str::parse).transpose().map_err(|_| wrong())?,
            to: if to == "*" { None } else { Some(to.parse().map_err(|_| wrong())?) },
        })
    }
}

impl Rule {
    fn to(&self) -> &str {
        self.to.as_ref().map_or("*", Repository::as_str)
    }

    /// The host that it is about.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn from(&self) -> String {
        match &self.prefix {
            Some(prefix) => format!("{}/{prefix}", self.host),
            None => self.host.clone(),
        }
    }

    /// How many bytes of a name the prefix is, if the name is below it.
    fn covers(&self, name: &str) -> Option<usize> {
        let Some(prefix) = &self.prefix else { return Some(0) };
        let rest = name.strip_prefix(prefix.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(prefix.as_str().len())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.from(), self.to())
    }
}

/// The rules of a registry, without contradiction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<Rule>);

impl Names {
    /// Takes rules in any order; the same one twice is one.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Result<Self, NamesError> {
        let mut kept: Vec<Rule> = Vec::new();
        for rule in rules {
            match kept.iter().find(|k| k.host == rule.host && k.prefix == rule.prefix) {
                None => kept.push(rule),
                Some(known) if known.to == rule.to => {}
                Some(known) => {
                    let (first, second) = (known.to().into(), rule.to().into());
                    return Err(NamesError::Ambiguous { from: rule.from(), first, second });
                }
            }
        }
        if kept.len() > MAX_RULES {
            return Err(NamesError::TooMany(kept.len()));
        }
        Ok(Self(kept))
    }

    /// Whether any rule is about this host.
    pub fn knows(&self, host: &str) -> bool {
        self.0.iter().any(|rule| rule.host == host)
    }

    /// The own name of a host's repository by the rule with the longest prefix. `None`: no rule, or a name longer than
    /// the grammar has.
    pub fn lookup(&self, host: &str, name: &Repository) -> Option<Repository> {
        let rules = self.0.iter().filter(|rule| rule.host == host);
        let found = rules.filter_map(|rule| Some((rule.covers(name.as_str())?, rule)));
        let (covered, rule) = found.max_by_key(|(covered, _)| *covered)?;
        let Some(to) = &rule.to else { return Some(name.clone()) };
        match name.as_str()[covered..].trim_start_matches('/') {
            "" => Some(to.clone()),
            rest => format!("{to}/{rest}").parse().ok(),
        }
    }
}

/// The rules that hold now; others may take their place while requests are answered.
#[derive(Debug, Default)]
pub struct NamesCell(RwLock<Arc<Names>>);

impl NamesCell {
    /// Begins with these.
    pub fn new(names: Names) -> Self {
        Self(RwLock::new(Arc::new(names)))
    }

    /// The rules as they are.
    pub fn get(&self) -> Arc<Names> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in their place: requests from now on go by them.
    pub fn set(&self, names: Names) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(rules: &[&str]) -> Result<Names, NamesError> {
        Names::new(rules.iter().map(|r| r.parse()).collect::<Result<Vec<_>, _>>()?)
    }

    #[test]
    fn the_longest_prefix_of_whole_components_wins() {
        let names =
            names(&["docker.io=hub", "docker.io/library=edge/std", "docker.io/library/nginx=web"]).unwrap();
        let own = |host: &str, name: &str| {
            names.lookup(host, &name.parse().unwrap()).map(|n| n.to_string()).unwrap_or_default()
        };
        assert_eq!(own("docker.io", "library/nginx"), "web");
        assert_eq!(own("docker.io", "library/nginx/x"), "web/x");
        assert_eq!(own("docker.io", "library/nginx-extra"), "edge/std/nginx-extra");
        assert_eq!(own("docker.io", "grafana/loki"), "hub/grafana/loki");
        assert_eq!(own("quay.io", "grafana/loki"), "");
        let same: Rule = "quay.io=*".parse().unwrap();
        assert_eq!((same.to_string().as_str(), same.host()), ("quay.io=*", "quay.io"));
        let found = Names::new([same]).unwrap().lookup("quay.io", &"grafana/loki".parse().unwrap());
        assert_eq!(found.unwrap().as_str(), "grafana/loki");
    }

    #[test]
    fn what_is_no_rule_or_contradicts_is_refused_with_its_text() {
        for text in ["", "docker.io", "=x", "docker.io=", "docker.io/=x", "a b=x", "docker.io=Up", "x=../y"] {
            assert_eq!(text.parse::<Rule>(), Err(NamesError::Rule(text.into())), "{text}");
        }
        let twice = names(&["docker.io/a=x", "registry-1.docker.io/a=y"]).unwrap_err();
        assert_eq!(twice.to_string(), "two rules for docker.io/a: to x and to y; leave one");
        assert_eq!(names(&["docker.io/a=x", "docker.io/a=x"]).unwrap().0.len(), 1);
        let many = (0..=MAX_RULES).map(|n| format!("h{n}.test=x").parse().unwrap());
        assert_eq!(Names::new(many), Err(NamesError::TooMany(MAX_RULES + 1)));
    }

    proptest! {
        #[test]
        fn what_is_found_is_below_a_target_within_the_grammar_and_the_order_is_no_matter(
            rules in prop::collection::vec(("[ab]\\.test", "(/[ab]){0,2}", "[ab](/[ab])?"), 0..6),
            name in "[ab](/[ab]){0,4}", long in any::<bool>(),
        ) {
            let rules: Vec<Rule> =
                rules.iter().map(|(h, p, t)| format!("{h}{p}={t}").parse().unwrap()).collect();
            let name: Repository = if long { "a".repeat(254) } else { name }.parse().unwrap();
            let backwards = Names::new(rules.iter().rev().cloned());
            let Ok(names) = Names::new(rules.clone()) else {
                prop_assert!(backwards.is_err());
                return Ok(());
            };
            let found = names.lookup("a.test", &name);
            prop_assert_eq!(&found, &backwards.unwrap().lookup("a.test", &name));
            let longest = rules.iter().filter(|r| r.host == "a.test")
                .filter_map(|r| Some((r.covers(name.as_str())?, r))).max_by_key(|(n, _)| *n);
            match found {
                Some(found) => {
                    let (covered, rule) = longest.unwrap();
                    prop_assert!(found.as_str().parse::<Repository>().is_ok());
                    let rest = found.as_str().strip_prefix(rule.to()).unwrap();
                    prop_assert_eq!(rest.trim_start_matches('/'), name.as_str()[covered..].trim_start_matches('/'));
                }
                None => prop_assert!(longest.is_none() || long),
            }
        }
    }
}
