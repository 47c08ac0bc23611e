//! The part of reading a JWT that passes and user tokens share: form, algorithm and signature. What the claims must say is
//! checked by the caller, against a time that is an argument.

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::de::DeserializeOwned;

/// How far the clocks of two machines may be apart, in seconds.
pub const LEEWAY_SECONDS: i64 = 5;

/// One key with the one algorithm that it is good for.
pub(super) struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    pub fn new(key: DecodingKey, algorithm: Algorithm) -> Self {
        let mut validation = Validation::new(algorithm);
        // The library checks times against the wall clock, and `aud` and `iss` only where they are present.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { key, validation }
    }

    /// Header and claims of a token that was signed with this key and its algorithm. The error says which part is wrong, in
    /// words for the log.
    pub fn open<T: DeserializeOwned>(&self, token: &str) -> Result<(Header, T), &'static str> {
        use jsonwebtoken::errors::ErrorKind;
        let data = jsonwebtoken::decode::<T>(token, &self.key, &self.validation).map_err(|e| match e.kind() {
            ErrorKind::InvalidAlgorithm => "alg",
            ErrorKind::InvalidSignature => "signature",
            ErrorKind::Json(_) => "claims",
            _ => "form",
        })?;
        // RFC 7515, 4.1.11: what the header calls critical must be understood, and nothing is.
        if data.header.crit.is_some() {
            return Err("crit");
        }
        Ok((data.header, data.claims))
    }
}
