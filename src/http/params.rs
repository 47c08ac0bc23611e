//! Path and query parameters, with errors that name them.

use actix_web::HttpRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::Problem;
use crate::domain::id::InvalidId;
use crate::ledger::PageRequest;

/// Reads an id of the path.
pub fn id<T: TryFrom<String, Error = InvalidId>>(name: &str, text: &str) -> Result<T, Problem> {
    T::try_from(text.to_owned()).map_err(|why| Problem::invalid(format!("{name} {why}.")))
}

/// Reads the query.
pub fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    actix_web::web::Query::<T>::from_query(request.query_string())
        .map(actix_web::web::Query::into_inner)
        .map_err(|why| Problem::invalid_as_sent(&format!("The query is not valid: {why}.")))
}

/// `?page=&page_size=`: from 1; 1 to 100, 20 if left out.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct PageQuery {
    #[serde(default = "first")]
    page: u32,
    #[serde(default = "usual")]
    page_size: u32,
}

fn first() -> u32 {
    1
}

fn usual() -> u32 {
    20
}

/// Reads the page asked for.
pub fn page(request: &HttpRequest) -> Result<PageRequest, Problem> {
    let PageQuery { page, page_size } = query(request)?;
    if !(1..=1_000_000).contains(&page) || !(1..=100).contains(&page_size) {
        return Err(Problem::invalid("page counts from 1 to 1000000 and page_size is from 1 to 100."));
    }
    Ok(PageRequest { page, size: page_size })
}

/// One page of a list.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct PageView<T> {
    /// The rows of this page.
    pub data: Vec<T>,
    /// Which page.
    pub page: u32,
    /// Most rows of a page.
    pub page_size: u32,
    /// Rows in all.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;
    use crate::hostile;

    fn asked(text: &str) -> Result<PageRequest, Problem> {
        page(&TestRequest::with_uri(&format!("/bookings?{text}")).to_http_request())
    }

    proptest! {
        #![proptest_config(hostile::config("queries"))]

        #[test]
        fn a_page_is_in_range_or_refused(
            text in "(page=[0-9-]{0,9}|page_size=[0-9+]{0,4}|[a-z=%&;]{0,9}|%[0-9A-F]{2}=%[0-9A-G]{2}|page|page%5Fsize=7){0,4}(&(page|page_size)=[0-9]{1,4}){0,3}",
        ) {
            if let Ok(PageRequest { page, size }) = asked(&text) {
                prop_assert!((1..=1_000_000).contains(&page) && (1..=100).contains(&size), "{}", text);
            }
        }

        #[test]
        fn a_page_that_is_named_twice_is_refused(one in 1..100_u32, other in 1..100_u32) {
            let (twice, once) = (format!("page={one}&page={other}"), format!("page={one}&page_size={other}"));
            prop_assert!(asked(&twice).is_err());
            prop_assert!(asked(&once).is_ok_and(|read| (read.page, read.size) == (one, other)));
        }
    }
}
