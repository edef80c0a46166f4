//! Pages, filters and order of lists.

use super::message::{Reply, Request};
use serde_json::Value;

/// A row of a list: what filters and orders look at, and how it is shown.
pub(super) struct Row<'a> {
    name: String,
    id: u64,
    shown: Box<dyn FnOnce() -> Value + 'a>,
}

impl<'a> Row<'a> {
    /// `shown` is only asked for on the page that is wanted.
    pub(super) fn new(name: &str, id: u64, shown: impl FnOnce() -> Value + 'a) -> Self {
        Self { name: name.into(), id, shown: Box::new(shown) }
    }
}

/// One condition of `q`.
enum Match {
    Exact(String),
    Contains(String),
    AnyOf(Vec<String>),
}

impl Match {
    fn hits(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => text == wanted,
            Self::Contains(part) => text.contains(part.as_str()),
            Self::AnyOf(list) => list.iter().any(|wanted| wanted == text),
        }
    }
}

/// The conditions of `q`, by lower-case key.
pub(super) struct Filter(Vec<(String, Match)>);

impl Filter {
    /// # Errors
    /// Harbor's answer to a `q` that is none.
    pub(super) fn of(request: &Request) -> Result<Self, Reply> {
        let mut all = Vec::new();
        for part in request.query("q").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
            let pair = part.split_once('=').filter(|(key, value)| !key.is_empty() && !value.is_empty());
            let (key, value) = pair.ok_or_else(|| {
                let text = "the query string must contain \"=\" and the key/value cannot be empty";
                Reply::error(400, "BAD_REQUEST", text)
            })?;
            let list = value.strip_prefix('{').and_then(|v| v.strip_suffix('}'));
            let wanted = match (value.strip_prefix('~'), list) {
                (Some(part), _) => Match::Contains(part.into()),
                (None, Some(list)) => Match::AnyOf(list.split(' ').map(str::to_owned).collect()),
                (None, None) => Match::Exact(value.into()),
            };
            all.push((key.to_ascii_lowercase(), wanted));
        }
        Ok(Self(all))
    }

    /// Whether a text fulfils the condition of that key, if there is one.
    pub(super) fn hits(&self, key: &str, text: &str) -> bool {
        self.0.iter().filter(|(known, _)| known == key).all(|(_, wanted)| wanted.hits(text))
    }

    /// The exact value of a key.
    pub(super) fn exact(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|(known, wanted)| match wanted {
            Match::Exact(value) if known == key => Some(value.as_str()),
            _ => None,
        })
    }
}

/// The page that was asked for, with `X-Total-Count` and `Link`. Rows are in the default order.
pub(super) fn page(request: &Request, mut rows: Vec<Row<'_>>) -> Reply {
    let number = |name: &str| request.query(name).and_then(|text| text.parse::<i64>().ok());
    let (page, size) = (number("page").unwrap_or(1).max(1), number("page_size").unwrap_or(10));
    if size > 100 {
        let text = "validation failure list:\npage_size in query should be less than or equal to 100";
        return Reply::error(422, "UNPROCESSABLE_ENTITY", text);
    }
    match request.query("sort") {
        Some("name") => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        Some("-name") => rows.sort_by(|a, b| b.name.cmp(&a.name)),
        // Numbers are given in the order of creation.
        Some("id" | "creation_time") => rows.sort_by_key(|row| row.id),
        Some("-id" | "-creation_time") => rows.sort_by_key(|row| std::cmp::Reverse(row.id)),
        _ => {}
    }
    let total = rows.len();
    // 0 is "all", without links; a negative one is the default, with the links of what it says.
    let take = match size {
        0 => total.max(1),
        1.. => usize::try_from(size).expect("a size that fits"),
        _ => 10,
    };
    let skip = usize::try_from(page - 1).expect("a page that fits").saturating_mul(take);
    let shown: Vec<Value> = rows.into_iter().skip(skip).take(take).map(|row| (row.shown)()).collect();
    let reply = Reply::json(&shown.into()).header("X-Total-Count", &total.to_string());
    let last = if size < 0 { i64::MAX } else { total.div_ceil(take) as i64 };
    let mut links = Vec::new();
    if size != 0 && page > 1 && page <= last.saturating_add(1) && (page - 1) <= last {
        links.push(link(request, page - 1, "prev"));
    }
    if size != 0 && page < last {
        links.push(link(request, page + 1, "next"));
    }
    if links.is_empty() || skip >= total { reply } else { reply.header("Link", &links.join(" , ")) }
}

/// Relative, and with the query as it reads, not as it must be sent.
fn link(request: &Request, page: i64, which: &str) -> String {
    let path = request.target.split('?').next().unwrap_or_default();
    let size = request.query("page_size").unwrap_or("10");
    let mut query = format!("page={page}&page_size={size}");
    for name in ["q", "sort"] {
        if let Some(value) = request.query(name).filter(|value| !value.is_empty()) {
            query.push_str(&format!("&{name}={value}"));
        }
    }
    format!("<{path}?{query}>; rel=\"{which}\"")
}
