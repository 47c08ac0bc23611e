//! `usher openapi`: the OpenAPI document, without a service.

use std::path::Path;

use super::{Done, output};

/// Runs the command.
///
/// # Errors
/// When the document cannot be written.
pub fn run(out: Option<&Path>) -> Done {
    let document = serde_json::from_str(&crate::http::openapi_json())?;
    Ok(output::write_json(&document, out)?)
}
