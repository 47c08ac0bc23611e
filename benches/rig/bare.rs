//! The yardstick: the same framework, workers and allocator, and nothing behind it.

use std::hint::black_box;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use clap::ArgMatches;
use serde::Deserialize;

use crate::{Done, count, given};

/// What is read of a posted body; the rest of it is parsed and passed over.
#[derive(Deserialize)]
struct Posted {
    event_id: String,
}

/// Constant bodies of every size up to this are made once.
const MOST: usize = 4_096;

#[derive(Clone)]
struct Bodies(web::Bytes);

impl Bodies {
    /// JSON of exactly this size.
    fn of(&self, size: usize) -> HttpResponse {
        HttpResponse::Ok().content_type("application/json").body(self.0.slice(..size.min(self.0.len())))
    }
}

async fn constant(bodies: web::Data<Bodies>, size: web::Path<usize>) -> HttpResponse {
    bodies.of(*size)
}

async fn posted(bodies: web::Data<Bodies>, size: web::Path<usize>, body: web::Json<Posted>) -> HttpResponse {
    black_box(&body.event_id);
    bodies.of(*size)
}

pub async fn run(options: &ArgMatches) -> Done {
    // What it says does not matter, but that nothing is made of it again for each answer does.
    let bodies = web::Data::new(Bodies(web::Bytes::from(vec![b'1'; MOST])));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(bodies.clone())
            .route("/constant/{size}", web::get().to(constant))
            .route("/constant/{size}", web::post().to(posted))
    })
    .workers(count(options, "workers"))
    .backlog(4_096)
    .keep_alive(Duration::from_secs(75))
    .bind(given(options, "listen"))?;
    Ok(server.run().await?)
}
