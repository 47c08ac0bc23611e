//! At the booking desk: requests whose every part a test can change, and the key that signs the passes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::usher::{Reply, World};

/// Lets everybody in at once.
pub const RUSH: u32 = 60_000_000;

/// The body of a reservation in zone `z1` of show `s1`.
pub fn asking(event: &str, quantity: impl serde::Serialize) -> Value {
    json!({ "event_id": event, "show_id": "s1", "zone_id": "z1", "quantity": quantity, "unit_price": 100.0 })
}

/// A reservation with nothing but a body and a key.
pub fn reservation(world: &World, at: usize, key: &str, body: &Value) -> RequestBuilder {
    world.request(at, Method::POST, "/bookings/reserve").header("X-Idempotency-Key", key).json(body)
}

/// Joins as a signed-in visitor, waits to be let in, and gives ticket and pass.
pub async fn admitted_as(world: &World, at: usize, event: &str, user: &str) -> (String, String) {
    let joined = world.join_as(at, event, user).await;
    assert!(matches!(joined.status, StatusCode::CREATED | StatusCode::OK), "{}", joined.text);
    let ticket = joined.json()["token"].as_str().expect("a ticket").to_owned();
    let pass = world.pass(at, event, &ticket).await;
    (ticket, pass)
}

/// The id of the booking that was answered.
#[track_caller]
pub fn booking_id(reply: &Reply) -> String {
    reply.expect(201)["booking_id"].as_str().expect("an id").to_owned()
}

/// A part of a token, from 0, as JSON.
pub fn part(token: &str, at: usize) -> Value {
    let text = token.split('.').nth(at).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
}

/// JSON as a part of a token.
pub fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// The key that the world signs its passes with.
pub struct Signer {
    key: EncodingKey,
    pub algorithm: Algorithm,
}

impl Signer {
    pub fn of(world: &World) -> Self {
        if let Some(secret) = &world.settings.pass.secret {
            return Self { key: EncodingKey::from_secret(secret.expose_bytes()), algorithm: Algorithm::HS256 };
        }
        let pem = std::fs::read(world.settings.data_dir.join("pass.pem")).expect("the generated key");
        Self { key: EncodingKey::from_ed_pem(&pem).expect("a PEM"), algorithm: Algorithm::EdDSA }
    }

    /// Signs these claims under the header of `pass`, changed by `change`.
    pub fn sign(&self, pass: &str, claims: &Value, change: impl FnOnce(&mut Header)) -> String {
        let mut header: Header = serde_json::from_value(part(pass, 0)).expect("a header");
        change(&mut header);
        jsonwebtoken::encode(&header, claims, &self.key).expect("signed")
    }
}
