//! Lists: whole, as the reference answers them, or in pages.
//!
//! Without `limit` a list is all there is, as a JSON array; it goes out while it is read from the database, so that a
//! hundred thousand rows take no memory. With `limit` it is a page, and the header `Link` names the next one.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_lite::stream;
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::{Answer, Error};

/// Rows read at once for a whole list.
const CHUNK: i64 = 500;
/// Most rows of a page.
const MAX_PAGE: i64 = 1000;

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Most rows of the answer, up to 1000; without it the whole list.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<i64>,
    /// Rows after this cursor: the last page's header `Link` has it.
    pub after: Option<String>,
    /// Only names that contain this text.
    pub q: Option<String>,
}

/// A page that was asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// Most rows; `None`: all.
    pub limit: Option<i64>,
    /// Where it begins.
    pub after: Option<String>,
}

impl PageQuery {
    /// Checked.
    ///
    /// # Errors
    /// 400 for a limit that is none.
    pub fn page(&self) -> Result<Page, Error> {
        if self.limit.is_some_and(|n| !(1..=MAX_PAGE).contains(&n)) {
            return Err(Error::bad(format!("limit: must be 1 to {MAX_PAGE}")));
        }
        Ok(Page { limit: self.limit, after: self.after.clone().filter(|a| !a.is_empty()) })
    }
}

impl Page {
    /// The cursor as a number.
    ///
    /// # Errors
    /// 400 for another one.
    pub fn after_number(&self) -> Result<Option<i64>, Error> {
        self.after
            .as_ref()
            .map(|a| a.parse().map_err(|_| Error::bad("after: must be the cursor of an answer's Link")))
            .transpose()
    }
}

/// A list as an answer. `read(cursor, rows)` gives the rows after a cursor; `cursor(row)` is a row's; `print` makes what
/// is shown of it. `empty` is the body of a list without rows: `null` or `[]`.
pub async fn stream<K, R, T, F>(
    page: Page,
    first: K,
    empty: &'static str,
    read: impl Fn(K, i64) -> F + Send + 'static,
    cursor: impl Fn(&R) -> K + Send + 'static,
    print: impl Fn(R) -> T + Send + 'static,
) -> Answer
where
    K: Clone + ToString + Send + 'static,
    R: Send + 'static,
    T: Serialize,
    F: Future<Output = Result<Vec<R>, crate::db::Error>> + Send,
{
    let wanted = page.limit.unwrap_or(CHUNK);
    let mut rows = read(first, wanted + 1).await?;
    if rows.is_empty() {
        return Ok(array(Body::from(empty)));
    }
    let more = i64::try_from(rows.len()).is_ok_and(|n| n > wanted);
    if more {
        rows.pop();
    }
    let last = rows.last().map(&cursor);
    let mut begin = Vec::from(*b"[");
    write(&mut begin, rows, &print);
    if page.limit.is_some() || !more {
        begin.push(b']');
        let mut response = array(Body::from(begin));
        if let (true, Some(last)) = (more, last) {
            let link = format!(
                "<?limit={wanted}&after={}>; rel=\"next\"",
                percent_encoding::utf8_percent_encode(&last.to_string(), percent_encoding::NON_ALPHANUMERIC)
            );
            if let Ok(value) = HeaderValue::from_str(&link) {
                response.headers_mut().insert(header::LINK, value);
            }
        }
        return Ok(response);
    }
    let rest = stream::try_unfold((last, read, cursor, print), |(from, read, cursor, print)| async move {
        let Some(from) = from else { return Ok(None) };
        let rows = read(from, CHUNK).await.map_err(|e| {
            log::error!("a list was cut: {e}");
            std::io::Error::other(e)
        })?;
        let full = i64::try_from(rows.len()).is_ok_and(|n| n >= CHUNK);
        let next = rows.last().filter(|_| full).map(&cursor);
        let mut piece = Vec::new();
        if !rows.is_empty() {
            piece.push(b',');
            write(&mut piece, rows, &print);
        }
        if next.is_none() {
            piece.push(b']');
        }
        Ok::<_, std::io::Error>(Some((Bytes::from(piece), (next, read, cursor, print))))
    });
    let whole = futures_lite::StreamExt::chain(stream::once(Ok(Bytes::from(begin))), rest);
    Ok(array(Body::from_stream(whole)))
}

fn write<R, T: Serialize>(out: &mut Vec<u8>, rows: Vec<R>, print: &impl Fn(R) -> T) {
    for (i, row) in rows.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        // Rows are plain structs of texts and numbers: printing one into memory cannot fail.
        if let Err(e) = serde_json::to_writer(&mut *out, &print(row)) {
            log::error!("a row cannot be printed: {e}");
        }
    }
}

fn array(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
