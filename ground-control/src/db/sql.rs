//! Statements, whole or put together from parts; values are always bound, never written into the text.

use sqlx::{
    Any, AssertSqlSafe,
    any::{AnyArguments, AnyRow},
    query::Query,
};

use super::{Columns, Conn, FromColumns, Result};

#[derive(Clone, Debug)]
enum Value {
    Number(Option<i64>),
    Text(Option<String>),
}

/// What can be bound.
pub trait IntoValue {
    #[doc(hidden)]
    fn into_value(self) -> Bound;
}

#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Bound(Value);

macro_rules! bound {
    ($($t:ty => $make:expr;)*) => {$(
        impl IntoValue for $t {
            fn into_value(self) -> Bound {
                Bound($make(self))
            }
        }
    )*};
}

bound! {
    i64 => |n| Value::Number(Some(n));
    Option<i64> => Value::Number;
    bool => |b| Value::Number(Some(i64::from(b)));
    &str => |t: &str| Value::Text(Some(clean(t.into())));
    &String => |t: &String| Value::Text(Some(clean(t.clone())));
    String => |t| Value::Text(Some(clean(t)));
    Option<String> => |t: Option<String>| Value::Text(t.map(clean));
    Option<&str> => |t: Option<&str>| Value::Text(t.map(|t| clean(t.into())));
}

/// PostgreSQL's texts have no NUL in them.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// A statement with its values.
#[derive(Clone, Debug)]
pub struct Sql {
    text: Text,
    values: Vec<Value>,
}

#[derive(Clone, Debug)]
enum Text {
    Whole(&'static str),
    Built(String),
}

impl Sql {
    /// A whole statement with `$1`, `$2` … in it.
    pub fn new(text: &'static str) -> Self {
        Self { text: Text::Whole(text), values: Vec::new() }
    }

    /// Its next value.
    #[must_use]
    pub fn bind(mut self, value: impl IntoValue) -> Self {
        self.values.push(value.into_value().0);
        self
    }

    /// More text; `?` stands for the next values.
    pub fn push(&mut self, text: &'static str, values: impl IntoIterator<Item = Bound>) -> &mut Self {
        let mut built = match std::mem::replace(&mut self.text, Text::Whole("")) {
            Text::Whole(text) => text.to_string(),
            Text::Built(text) => text,
        };
        let mut values = values.into_iter();
        let mut parts = text.split('?');
        built.push_str(parts.next().unwrap_or_default());
        for part in parts {
            if let Some(value) = values.next() {
                self.values.push(value.0);
            }
            built.push('$');
            built.push_str(&self.values.len().to_string());
            built.push_str(part);
        }
        self.text = Text::Built(built);
        self
    }

    /// `(?, ?, …), (?, …)`: rows of `width` values.
    pub fn push_rows(&mut self, width: usize, values: impl IntoIterator<Item = Bound>) -> &mut Self {
        let mut first = true;
        let mut column = 0;
        for value in values {
            let lead = match (column, first) {
                (0, true) => "(?",
                (0, false) => ", (?",
                _ => ", ?",
            };
            first = false;
            self.push(lead, [value]);
            column = (column + 1) % width;
            if column == 0 {
                self.push(")", []);
            }
        }
        self
    }

    /// One value for [`Sql::push`].
    pub fn value(value: impl IntoValue) -> Bound {
        value.into_value()
    }

    fn query(self) -> Query<'static, Any, AnyArguments> {
        let mut query = match self.text {
            Text::Whole(text) => sqlx::query(text),
            Text::Built(text) => sqlx::query(AssertSqlSafe(text)),
        };
        for value in self.values {
            query = match value {
                Value::Number(n) => query.bind(n),
                Value::Text(t) => query.bind(t),
            };
        }
        query
    }

    /// Runs it; how many rows it changed.
    pub async fn run(self, c: &mut Conn) -> Result<u64> {
        Ok(self.query().execute(c).await?.rows_affected())
    }

    /// Its first row.
    pub(super) async fn one<T: FromColumns>(self, c: &mut Conn) -> Result<Option<T>> {
        let row: Option<AnyRow> = self.query().fetch_optional(c).await?;
        row.map(|row| T::from_columns(&mut Columns::new(&row))).transpose()
    }

    /// Its one row, which it always has.
    pub(super) async fn just<T: FromColumns>(self, c: &mut Conn) -> Result<T> {
        T::from_columns(&mut Columns::new(&self.query().fetch_one(c).await?))
    }

    /// All its rows.
    pub(super) async fn all<T: FromColumns>(self, c: &mut Conn) -> Result<Vec<T>> {
        let rows: Vec<AnyRow> = self.query().fetch_all(c).await?;
        rows.iter().map(|row| T::from_columns(&mut Columns::new(row))).collect()
    }
}

/// A pattern for `LIKE … ESCAPE '\'` that finds `text` anywhere.
pub fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
