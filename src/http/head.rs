//! What the head of a request may measure. The server beneath takes at most 96 headers and 128 KiB of head, and answers what is
//! larger with a bare 431, or 400 for a path of more than 64 KiB; these limits are lower, and the answers say what is wrong.

use actix_web::dev::RequestHead;
use actix_web::http::header::TRANSFER_ENCODING;

use super::error::HttpProblem;
use crate::domain::{Code, Problem};

/// The longest path and query together, in bytes: the longest path there is has less than 400.
const MAX_URI: usize = 8_192;
/// All names and values of headers together, in bytes: room for a user token, a pass and the ticket cookies of a dozen lines,
/// each as long as they get.
const MAX_HEADERS: usize = 32_768;

/// Refuses a head that is too large; says of others whether a body follows in chunks.
pub fn check(head: &RequestHead) -> Result<bool, HttpProblem> {
    let uri = head.uri.path_and_query().map_or(0, |text| text.as_str().len());
    if uri > MAX_URI {
        let detail = format!("The path and query may have at most {MAX_URI} bytes together.");
        return Err(Problem::new(Code::UriTooLong, detail).into());
    }
    let (mut headers, mut chunked) = (0, false);
    for (name, value) in &head.headers {
        headers += name.as_str().len() + value.len();
        chunked |= *name == TRANSFER_ENCODING;
    }
    if headers > MAX_HEADERS {
        let detail = format!("The headers may have at most {MAX_HEADERS} bytes; drop cookies that are not needed.");
        return Err(Problem::new(Code::HeadersTooLarge, detail).into());
    }
    Ok(chunked)
}
