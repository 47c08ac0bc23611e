//! The OpenAPI document and a page that shows it.

use std::sync::LazyLock;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};

use super::{admin, bookings, events, health, queue};

/// The whole interface.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Usher",
        description = "A virtual queue in front of a booking system: join the line, be let in at a controlled rate, reserve with the pass.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        queue::join, queue::position, queue::stream, queue::leave, queue::status,
        bookings::reserve, bookings::confirm, bookings::cancel, bookings::get, bookings::list, bookings::summary,
        events::list, events::get, events::availability,
        admin::list, admin::get, admin::put, admin::patch, admin::remove, admin::reset,
        admin::inventory, admin::sync, admin::audit,
        health::health, health::ready, health::metrics, health::jwks,
        document,
    ),
    modifiers(&Security)
)]
struct Interface;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = || SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let header = |name: &str| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(name)));
        components.add_security_scheme("visitor", bearer());
        components.add_security_scheme("admin", bearer());
        components.add_security_scheme("ticket", header("X-Queue-Ticket"));
        components.add_security_scheme("pass", header("X-Queue-Pass"));
    }
}

/// The OpenAPI document as JSON.
pub fn openapi_json() -> String {
    Interface::openapi().to_pretty_json().unwrap_or_default()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "Health",
    responses((status = 200, description = "The OpenAPI document", body = serde_json::Value)))]
pub async fn document(text: web::Data<OpenApiText>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text.0.clone())
}

/// The document, written out once.
pub struct OpenApiText(pub web::Bytes);

/// A page for people, without anything from elsewhere. Its one script and its one style are named by their digests, so that
/// nothing else would run in it.
pub async fn page() -> HttpResponse {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let (script, style) = (digest_of(PAGE, "script"), digest_of(PAGE, "style"));
        format!(
            "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY.as_str()))
        .body(PAGE)
}

const PAGE: &str = include_str!("docs.html");

/// The SHA-256 of what stands between the tags, as a content security policy wants it.
fn digest_of(page: &str, tag: &str) -> String {
    let inner = page.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
    let inner = inner.map_or("", |(inner, _)| inner);
    STANDARD.encode(digest(&SHA256, inner.as_bytes()))
}
