//! User tokens: JWTs that somebody else issues and by which a visitor is known.

use std::path::Path;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::admission::PASS_TYPE;
use super::error::KeyError;
use super::jwt::{LEEWAY_SECONDS, Verifier};
use crate::config::AuthSettings;
use crate::domain::{Timestamp, VisitorId};

/// The longest user token, in characters.
pub const MAX_USER_TOKEN_LEN: usize = 8_192;
/// Bytes of a point of P-256, uncompressed.
const P256_POINT_LEN: usize = 65;
/// Bytes of an Ed25519 public key.
const ED25519_LEN: usize = 32;

const WANTED: &str = "a PEM public key or a JWKS with keys for RS256 (2048 bits or more), ES256 or EdDSA";

/// Why a user token is not taken. The texts are for the log: a caller learns only that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not signed with a key that is known, with the algorithm of that key.
    #[error("the user token is not authentic: {0}")]
    Forged(&'static str),
    /// Authentic, but this claim is missing or says something else than it must.
    #[error("the user token's {0} is missing or wrong")]
    Claim(&'static str),
    /// Authentic, and run out.
    #[error("the user token has expired")]
    Expired,
    /// Authentic, and not good yet.
    #[error("the user token is not good yet")]
    NotYetValid,
    /// User tokens are not signed with a secret here, so none can be issued.
    #[error("user tokens can be issued only where auth_jwt_secret is set")]
    NoSecret,
}

struct NamedKey {
    kid: Option<String>,
    verifier: Verifier,
}

/// The keys of user tokens, and what the tokens must say.
pub struct VisitorKey {
    keys: Vec<NamedKey>,
    audience: Option<String>,
    issuer: Option<String>,
}

impl std::fmt::Debug for VisitorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VisitorKey").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// What is read of a user token. Times may have fractions (RFC 7519, 2).
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: Value,
    #[serde(default)]
    user_id: Value,
    #[serde(default)]
    aud: Value,
    #[serde(default)]
    iss: Value,
    exp: Option<f64>,
    nbf: Option<f64>,
}

impl VisitorKey {
    /// The keys that the settings name; `None` where they name none.
    ///
    /// # Errors
    /// [`KeyError`] with the file, when it cannot be read or holds no usable key.
    pub fn open(auth: &AuthSettings) -> Result<Option<Self>, KeyError> {
        let keys = if let Some(secret) = &auth.jwt_secret {
            let key = DecodingKey::from_secret(secret.expose_bytes());
            vec![NamedKey { kid: None, verifier: Verifier::new(key, Algorithm::HS256) }]
        } else if let Some(path) = &auth.public_key {
            read_keys(path).map_err(|error| error.of(path))?
        } else {
            return Ok(None);
        };
        Ok(Some(Self { keys, audience: auth.audience.clone(), issuer: auth.issuer.clone() }))
    }

    /// Whose token this is: its `sub`, else its `user_id`. `exp` and `nbf` are checked where they are present, with
    /// [`LEEWAY_SECONDS`]; `aud` and `iss` must be present where the settings name them.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<VisitorId, IdentityError> {
        if token.len() > MAX_USER_TOKEN_LEN {
            return Err(IdentityError::Forged("too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| IdentityError::Forged("form"))?;
        // A pass is not an identity, whoever signed it.
        if header.typ.as_deref() == Some(PASS_TYPE) {
            return Err(IdentityError::Forged("typ"));
        }
        let key = self.key(header.kid.as_deref()).ok_or(IdentityError::Forged("kid"))?;
        let (_, claims) = key.open::<Claims>(token).map_err(IdentityError::Forged)?;

        #[allow(clippy::cast_precision_loss)] // seconds stay below 2^53 for 285 million years
        let (now, leeway) = (now.seconds() as f64, LEEWAY_SECONDS as f64);
        if claims.exp.is_some_and(|exp| now >= exp + leeway) {
            return Err(IdentityError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now < nbf - leeway) {
            return Err(IdentityError::NotYetValid);
        }
        if let Some(issuer) = &self.issuer
            && claims.iss.as_str() != Some(issuer)
        {
            return Err(IdentityError::Claim("iss"));
        }
        if let Some(audience) = &self.audience {
            let is_ours = |value: &Value| value.as_str() == Some(audience);
            if !is_ours(&claims.aud) && !claims.aud.as_array().is_some_and(|all| all.iter().any(is_ours)) {
                return Err(IdentityError::Claim("aud"));
            }
        }
        match (&claims.sub, &claims.user_id) {
            (Value::Null, user_id) => as_visitor(user_id).ok_or(IdentityError::Claim("sub or user_id")),
            (sub, _) => as_visitor(sub).ok_or(IdentityError::Claim("sub")),
        }
    }

    /// The key of this name. A token without a name, and a key without one, go together only where there is one key.
    fn key(&self, kid: Option<&str>) -> Option<&Verifier> {
        let named = || self.keys.iter().find(|key| key.kid.is_some() && key.kid.as_deref() == kid);
        match self.keys.as_slice() {
            [only] if only.kid.is_none() || kid.is_none() => Some(&only.verifier),
            _ => named().map(|key| &key.verifier),
        }
    }
}

/// A text, or a whole number as text, if it is an id.
fn as_visitor(value: &Value) -> Option<VisitorId> {
    match value {
        Value::String(text) => VisitorId::parse(text).ok(),
        Value::Number(number) if !number.is_f64() => VisitorId::parse(&number.to_string()).ok(),
        _ => None,
    }
}

fn read_keys(path: &Path) -> Result<Vec<NamedKey>, KeyError> {
    let text = std::fs::read_to_string(path)?;
    let keys =
        if text.trim_start().starts_with('{') { from_jwks(&text) } else { from_pem(&text).into_iter().collect() };
    if keys.is_empty() { Err(KeyError::Format(WANTED)) } else { Ok(keys) }
}

/// One public key. The algorithm follows from what kind of key it is.
fn from_pem(pem: &str) -> Option<NamedKey> {
    // A private key or a certificate would be taken for something that it is not.
    if pem.contains("PRIVATE KEY") || pem.contains("CERTIFICATE") {
        return None;
    }
    let pem = pem.as_bytes();
    let (key, algorithm) = if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        (key, Algorithm::EdDSA)
    } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        (key, Algorithm::ES256)
    } else {
        (DecodingKey::from_rsa_pem(pem).ok()?, Algorithm::RS256)
    };
    usable(key, algorithm, None)
}

/// Every key of the set that can be used to verify: others are passed over, secrets (`oct`) among them.
fn from_jwks(text: &str) -> Vec<NamedKey> {
    let set = serde_json::from_str::<JwkSet>(text)
        .or_else(|_| serde_json::from_str::<Jwk>(text).map(|key| JwkSet { keys: vec![key] }));
    set.map(|set| set.keys.iter().filter_map(from_jwk).collect()).unwrap_or_default()
}

fn from_jwk(jwk: &Jwk) -> Option<NamedKey> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let same_algorithm = jwk.common.key_algorithm.is_none_or(|named| named == name);
    if !for_signatures || !same_algorithm {
        return None;
    }
    usable(DecodingKey::from_jwk(jwk).ok()?, algorithm, jwk.common.key_id.clone())
}

/// Refuses keys of the wrong size now, not at the first token.
fn usable(key: DecodingKey, algorithm: Algorithm, kid: Option<String>) -> Option<NamedKey> {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    let fits = match (algorithm, key.kind()) {
        (Algorithm::EdDSA, SecretOrDer(bytes)) => bytes.len() == ED25519_LEN,
        (Algorithm::ES256, SecretOrDer(bytes)) => bytes.len() == P256_POINT_LEN && bytes[0] == 4,
        (Algorithm::RS256, SecretOrDer(bytes)) => rsa_is_long_enough(bytes),
        (Algorithm::RS256, RsaModulusExponent { n, .. }) => {
            n.iter().skip_while(|byte| **byte == 0).count() >= MIN_RSA_LEN
        }
        _ => false,
    };
    fits.then(|| NamedKey { kid, verifier: Verifier::new(key, algorithm) })
}

/// Bytes of the shortest RSA modulus: 2048 bits.
const MIN_RSA_LEN: usize = 256;

fn rsa_is_long_enough(der: &[u8]) -> bool {
    let key = aws_lc_rs::rsa::PublicKey::from_der(der);
    let parts = key.map(|key| aws_lc_rs::signature::RsaPublicKeyComponents::<Vec<u8>>::from(&key));
    parts.is_ok_and(|parts| parts.n.len() >= MIN_RSA_LEN)
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    sub: &'a VisitorId,
    user_id: &'a VisitorId,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// A user token that [`VisitorKey::verify`] takes until `ttl` from `now`: for load tests and trials.
///
/// # Errors
/// [`IdentityError::NoSecret`] where user tokens are not signed with a secret.
pub fn issue_user_token(
    auth: &AuthSettings,
    visitor: &VisitorId,
    ttl: Duration,
    now: Timestamp,
) -> Result<String, IdentityError> {
    let secret = auth.jwt_secret.as_ref().ok_or(IdentityError::NoSecret)?;
    let claims = IssuedClaims {
        sub: visitor,
        user_id: visitor,
        iat: now.seconds(),
        exp: now.plus(ttl).seconds(),
        iss: auth.issuer.as_deref(),
        aud: auth.audience.as_deref(),
    };
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.expose_bytes()))
        .map_err(|_| IdentityError::NoSecret)
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
