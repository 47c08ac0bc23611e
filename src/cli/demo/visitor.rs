//! One visitor of the demonstration: joins, polls as told, and books with the pass.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::EVENT;

/// A visitor is given up on after so many polls.
const MOST_POLLS: u32 = 600;

/// Somebody in the crowd.
pub struct Visitor {
    client: reqwest::Client,
    api: String,
    number: u32,
}

/// How it ended for one visitor.
pub struct Ending {
    /// The place that the join gave.
    pub place: u64,
    /// When they were let in, as the pass says.
    pub admitted_at: String,
    /// Seats they got; 0 = sold out.
    pub seats: u32,
}

impl Visitor {
    /// The visitor with this number.
    pub fn new(client: reqwest::Client, base: &str, number: u32) -> Self {
        Self { client, api: format!("{base}/api/v1"), number }
    }

    /// Goes through the line. `Err` says what went wrong.
    pub async fn go(self) -> Result<Ending, String> {
        let joined = self.client.post(format!("{}/queue/join", self.api)).json(&json!({ "event_id": EVENT }));
        let (status, joined) = call(joined).await?;
        if status != StatusCode::CREATED {
            return Err(format!("join: {status} {joined}"));
        }
        let ticket = joined["token"].as_str().unwrap_or_default().to_owned();
        let mut pause = joined["poll_after_seconds"].as_u64().unwrap_or(1);
        for _ in 0..MOST_POLLS {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let poll =
                self.client.get(format!("{}/queue/position/{EVENT}", self.api)).header("X-Queue-Ticket", &ticket);
            let (status, seen) = call(poll).await?;
            if status != StatusCode::OK {
                return Err(format!("poll: {status} {seen}"));
            }
            if let Some(pass) = seen["queue_pass"].as_str() {
                let place = place_of(pass)?;
                let seats = self.book(pass).await?;
                // Everybody's pass lasts equally long: the order of expiry is the order of admission.
                let admitted_at = seen["queue_pass_expires_at"].as_str().unwrap_or_default().to_owned();
                return Ok(Ending { place, admitted_at, seats });
            }
            pause = seen["poll_after_seconds"].as_u64().unwrap_or(1);
        }
        Err("never let in".to_owned())
    }

    /// Takes one or two seats; 0 where too few are left.
    async fn book(&self, pass: &str) -> Result<u32, String> {
        let quantity = 1 + self.number % 2;
        let body = json!({ "event_id": EVENT, "show_id": "tonight", "zone_id": "floor", "quantity": quantity, "unit_price": super::FLOOR_PRICE });
        let reserve = self
            .client
            .post(format!("{}/bookings/reserve", self.api))
            .header("X-Queue-Pass", pass)
            .header("X-Idempotency-Key", format!("demo-{}", self.number))
            .json(&body);
        let (status, answer) = call(reserve).await?;
        match (status, answer["code"].as_str()) {
            (StatusCode::CREATED, _) => Ok(quantity),
            (StatusCode::CONFLICT, Some("INSUFFICIENT_SEATS")) => Ok(0),
            _ => Err(format!("reserve: {status} {answer}")),
        }
    }
}

/// The number of the place, from the pass: the demonstration looks inside to see that nobody overtook.
fn place_of(pass: &str) -> Result<u64, String> {
    use base64::Engine;
    let claims = pass.split('.').nth(1).unwrap_or_default();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).map_err(|why| why.to_string())?;
    let claims: Value = serde_json::from_slice(&bytes).map_err(|why| why.to_string())?;
    claims["num"].as_u64().ok_or_else(|| "the pass names no place".to_owned())
}

async fn call(request: reqwest::RequestBuilder) -> Result<(StatusCode, Value), String> {
    let answer = request.send().await.map_err(|why| why.to_string())?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(|why| why.to_string())?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
