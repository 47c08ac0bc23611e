//! Admission passes: what a visitor who was let in shows to book. Others read them too, so they are JWTs.
//!
//! Besides the claims of the contract a pass carries `num`, `adm` and `xpr` (the number of the place, and the times of the
//! admission in microseconds), so that the admission can be told from the pass alone. `typ` is [`PASS_TYPE`].

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::error::KeyError;
use super::jwt;
use crate::domain::id::MAX_ID_LEN;
use crate::domain::{EventId, PassId, Timestamp, VisitorId};
use crate::engine::{Admission, ClaimedPass};

/// The `typ` of a pass: a user token is never taken for one, nor a pass for a user token (RFC 8725, 3.11).
pub const PASS_TYPE: &str = "queue-pass+jwt";
/// The longest pass, in characters: ids of full length in every claim leave room to spare.
pub const MAX_PASS_LEN: usize = 4_096;
const PURPOSE: &str = "queue_pass";

/// The id of the pass of this place: always the same, so that no place can have two.
///
/// `{event}.{number}`, or where that is too long for an id `sha256:{digest of event}:{number}`, which has no dot and so is
/// never the first form of another event.
///
/// # Panics
/// Never: both forms are ids.
pub fn pass_id(event: &EventId, number: u64) -> PassId {
    let plain = format!("{event}.{number}");
    let text = if plain.len() <= MAX_ID_LEN {
        plain
    } else {
        format!("sha256:{}:{number}", URL_SAFE_NO_PAD.encode(digest(&SHA256, event.as_str().as_bytes())))
    };
    PassId::parse(&text).expect("made of an id's characters, and short enough")
}

/// What a verified pass says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPass {
    /// The event that it is for.
    pub event: EventId,
    /// The visitor whom it lets in.
    pub visitor: VisitorId,
    /// Its id.
    pub id: PassId,
    /// The admission that it was minted from.
    pub admission: Admission,
}

impl VerifiedPass {
    /// What the engine is told of it.
    pub const fn claimed(&self) -> ClaimedPass {
        let Admission { number, admitted_at, expires_at } = self.admission;
        ClaimedPass { number, admitted_at, expires_at }
    }
}

/// Why a pass is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// Not signed with this key, or not saying what a pass must say. The text is for the log.
    #[error("the pass is not authentic: {0}")]
    Forged(&'static str),
    /// Authentic, and not good yet: the clock of another instance is ahead.
    #[error("the pass is not good yet")]
    NotYetValid,
    /// Authentic, and run out. What it says, so that a used one can be told from one that was never used.
    #[error("the pass has expired")]
    Expired(Box<VerifiedPass>),
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: EventId,
    sub: VisitorId,
    event_id: EventId,
    user_id: VisitorId,
    purpose: String,
    jti: PassId,
    iat: i64,
    nbf: i64,
    exp: i64,
    num: u64,
    adm: i64,
    xpr: i64,
}

/// The key of passes: Ed25519 (EdDSA), or a secret (HS256).
pub struct PassKey {
    signing: EncodingKey,
    verifying: jwt::Verifier,
    header: Header,
    issuer: String,
    /// The public half, base64url; `None` for HS256.
    public: Option<String>,
}

impl fmt::Debug for PassKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassKey").field("kid", &self.header.kid).finish_non_exhaustive()
    }
}

impl PassKey {
    /// An Ed25519 key from a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`KeyError::Format`] when the text is not the PEM of an Ed25519 private key.
    pub fn from_pem(pem: &[u8], issuer: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::Format("a PKCS#8 PEM with an Ed25519 private key");
        let signing = EncodingKey::from_ed_pem(pem).map_err(|_| wrong())?;
        let pair = Ed25519KeyPair::from_pkcs8(signing.as_bytes()).map_err(|_| wrong())?;
        let public = pair.public_key().as_ref();
        let x = URL_SAFE_NO_PAD.encode(public);
        // RFC 7638: the members that make the key, in the order of their names.
        let thumbprint = digest(&SHA256, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes());
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        let verifying = DecodingKey::from_ed_der(public);
        Ok(Self::new(signing, verifying, Algorithm::EdDSA, kid, issuer, Some(x)))
    }

    /// An HS256 key from a secret of at least 32 bytes (the settings check the length).
    pub fn from_secret(secret: &[u8], issuer: &str) -> Self {
        // Names the key without telling anything of it that a pass does not tell already.
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"usher: name of the pass key");
        let kid = URL_SAFE_NO_PAD.encode(&tag.as_ref()[..12]);
        let (signing, verifying) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Self::new(signing, verifying, Algorithm::HS256, kid, issuer, None)
    }

    fn new(
        signing: EncodingKey,
        verifying: DecodingKey,
        algorithm: Algorithm,
        kid: String,
        issuer: &str,
        public: Option<String>,
    ) -> Self {
        let header = Header { typ: Some(PASS_TYPE.to_owned()), kid: Some(kid), ..Header::new(algorithm) };
        Self { signing, verifying: jwt::Verifier::new(verifying, algorithm), header, issuer: issuer.to_owned(), public }
    }

    /// The pass of an admission. The same admission gives the same claims, however often it is asked for.
    ///
    /// # Errors
    /// [`KeyError::Signing`] when the cryptographic library fails.
    pub fn mint(&self, event: &EventId, visitor: &VisitorId, admission: &Admission) -> Result<String, KeyError> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: event.clone(),
            sub: visitor.clone(),
            event_id: event.clone(),
            user_id: visitor.clone(),
            purpose: PURPOSE.to_owned(),
            jti: pass_id(event, admission.number),
            iat: admission.admitted_at.seconds(),
            nbf: admission.admitted_at.seconds(),
            exp: admission.expires_at.seconds(),
            num: admission.number,
            adm: admission.admitted_at.micros(),
            xpr: admission.expires_at.micros(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signing).map_err(|_| KeyError::Signing)
    }

    /// Reads a pass that was signed with this key and is good at `now`. It is good from `nbf`, less [`jwt::LEEWAY_SECONDS`],
    /// until `exp`.
    ///
    /// # Errors
    /// See [`PassError`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedPass, PassError> {
        if token.len() > MAX_PASS_LEN {
            return Err(PassError::Forged("too long"));
        }
        let (header, claims) = self.verifying.open::<Claims>(token).map_err(PassError::Forged)?;
        let admission = Admission {
            number: claims.num,
            admitted_at: Timestamp::from_micros(claims.adm),
            expires_at: Timestamp::from_micros(claims.xpr),
        };
        for (holds, what) in [
            (header.typ.as_deref() == Some(PASS_TYPE), "typ"),
            (claims.purpose == PURPOSE, "purpose"),
            (claims.iss == self.issuer, "iss"),
            (claims.aud == claims.event_id, "aud"),
            (claims.sub == claims.user_id, "sub"),
            (claims.jti == pass_id(&claims.event_id, claims.num), "jti"),
            (claims.exp == admission.expires_at.seconds(), "exp"),
            (claims.iat == admission.admitted_at.seconds() && claims.nbf == claims.iat, "iat"),
        ] {
            if !holds {
                return Err(PassError::Forged(what));
            }
        }
        let pass = VerifiedPass { event: claims.event_id, visitor: claims.user_id, id: claims.jti, admission };
        if now.seconds() >= claims.exp {
            return Err(PassError::Expired(Box::new(pass)));
        }
        if claims.nbf.saturating_sub(jwt::LEEWAY_SECONDS) > now.seconds() {
            return Err(PassError::NotYetValid);
        }
        Ok(pass)
    }

    /// The public keys of passes as a JWK Set (RFC 7517): one key for EdDSA, none for HS256.
    pub fn jwks(&self) -> serde_json::Value {
        let key = self.public.as_ref().map(|x| {
            serde_json::json!({
                "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.header.kid, "alg": "EdDSA", "use": "sig",
            })
        });
        serde_json::json!({ "keys": key.into_iter().collect::<Vec<_>>() })
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
