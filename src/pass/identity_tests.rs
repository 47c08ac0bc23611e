use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::encode;
use serde_json::json;

use super::*;
use crate::config::{Secret, from_pairs};
use crate::pass::keys::pem;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: Timestamp = Timestamp::from_seconds(10_000);

/// An issuer of user tokens: what it signs with, and what it publishes.
struct Issuer {
    algorithm: Algorithm,
    signing: EncodingKey,
    public_pem: String,
    jwk: Value,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rs256() -> Issuer {
    let pair = RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
    let private: Pkcs8V1Der<'_> = pair.as_der().expect("DER");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
    let parts = aws_lc_rs::signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    Issuer {
        algorithm: Algorithm::RS256,
        signing: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).expect("a key"),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
        jwk: json!({"kty": "RSA", "n": text(&parts.n), "e": text(&parts.e), "alg": "RS256", "use": "sig"}),
    }
}

fn es256() -> Issuer {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
    let point = pair.public_key().as_ref();
    Issuer {
        algorithm: Algorithm::ES256,
        signing: EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("DER").as_ref()),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
        jwk: json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])}),
    }
}

fn eddsa() -> Issuer {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
    Issuer {
        algorithm: Algorithm::EdDSA,
        signing: EncodingKey::from_ed_der(pair.to_pkcs8v1().expect("DER").as_ref()),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()), "use": "sig"}),
    }
}

impl Issuer {
    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.signing).expect("signed")
    }

    fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = json!(kid);
        jwk
    }
}

fn auth(pairs: &[(&str, &str)]) -> AuthSettings {
    from_pairs(pairs).expect("legal").auth
}

fn with_secret(more: &[(&str, &str)]) -> VisitorKey {
    let pairs = [&[("auth_jwt_secret", SECRET)], more].concat();
    VisitorKey::open(&auth(&pairs)).expect("opened").expect("a key")
}

fn with_file(content: &str) -> Result<VisitorKey, KeyError> {
    let path = std::env::temp_dir().join(format!("usher-identity-{}", uuid::Uuid::new_v4()));
    std::fs::write(&path, content).expect("writable");
    let opened = VisitorKey::open(&auth(&[("auth_public_key", path.to_str().expect("UTF-8"))]));
    std::fs::remove_file(&path).expect("there");
    opened.map(|key| key.expect("a key"))
}

fn hs256(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed")
}

#[allow(clippy::unnecessary_wraps)] // compared with answers as they are
fn visitor(id: &str) -> Result<VisitorId, IdentityError> {
    Ok(VisitorId::parse(id).expect("an id"))
}

#[test]
fn identity_is_sub_else_user_id() {
    let key = with_secret(&[]);
    for (claims, id) in [
        (json!({"sub": "u-1"}), "u-1"),
        (json!({"user_id": "u-2"}), "u-2"),
        (json!({"user_id": 12_345}), "12345"),
        (json!({"sub": 77}), "77"),
        (json!({"sub": "u-1", "user_id": "u-2"}), "u-1"),
        (json!({"sub": null, "user_id": "u-2", "exp": null}), "u-2"),
    ] {
        assert_eq!(key.verify(&hs256(&claims), NOW), visitor(id), "{claims}");
    }
    for claims in [
        json!({}),
        json!({"sub": ""}),
        json!({"sub": "", "user_id": "u-2"}),
        json!({"sub": "a b", "user_id": "u-2"}),
        json!({"sub": true}),
        json!({"sub": ["u-1"]}),
        json!({"user_id": 1.5}),
        json!({"sub": "x".repeat(129)}),
    ] {
        let refused = key.verify(&hs256(&claims), NOW);
        assert!(matches!(refused, Err(IdentityError::Claim(_) | IdentityError::Forged("claims"))), "{claims}");
    }
}

#[test]
fn times_are_checked_where_they_are_present() {
    let key = with_secret(&[]);
    for (claims, wanted) in [
        (json!({"sub": "u", "exp": 9_996}), visitor("u")),
        (json!({"sub": "u", "exp": 9_995}), Err(IdentityError::Expired)),
        (json!({"sub": "u", "exp": 9_995.5}), visitor("u")),
        (json!({"sub": "u", "exp": 0}), Err(IdentityError::Expired)),
        (json!({"sub": "u", "nbf": 10_005}), visitor("u")),
        (json!({"sub": "u", "nbf": 10_006}), Err(IdentityError::NotYetValid)),
        (json!({"sub": "u", "exp": "tomorrow"}), Err(IdentityError::Forged("claims"))),
    ] {
        assert_eq!(key.verify(&hs256(&claims), NOW), wanted, "{claims}");
    }
}

#[test]
fn audience_and_issuer_are_demanded_where_they_are_configured() {
    let key = with_secret(&[("auth_audience", "usher"), ("auth_issuer", "login")]);
    for (claims, wanted) in [
        (json!({"sub": "u", "aud": "usher", "iss": "login"}), visitor("u")),
        (json!({"sub": "u", "aud": ["shop", "usher"], "iss": "login"}), visitor("u")),
        (json!({"sub": "u", "iss": "login"}), Err(IdentityError::Claim("aud"))),
        (json!({"sub": "u", "aud": ["shop"], "iss": "login"}), Err(IdentityError::Claim("aud"))),
        (json!({"sub": "u", "aud": "usher"}), Err(IdentityError::Claim("iss"))),
        (json!({"sub": "u", "aud": "usher", "iss": "me"}), Err(IdentityError::Claim("iss"))),
        (json!({"sub": "u", "aud": "usher", "iss": ["login"]}), Err(IdentityError::Claim("iss"))),
    ] {
        assert_eq!(key.verify(&hs256(&claims), NOW), wanted, "{claims}");
    }
    let free = with_secret(&[]);
    assert_eq!(free.verify(&hs256(&json!({"sub": "u", "aud": "shop", "iss": "me"})), NOW), visitor("u"));
}

#[test]
fn a_public_key_file_verifies_the_algorithm_of_its_key_and_no_other() {
    let issuers = [rs256(), es256(), eddsa()];
    let claims = json!({"sub": "u-1"});
    for issuer in &issuers {
        for file in [issuer.public_pem.clone(), issuer.jwk.to_string(), json!({"keys": [issuer.jwk]}).to_string()] {
            let key = with_file(&file).expect("opened");
            assert_eq!(key.verify(&issuer.sign(None, &claims), NOW), visitor("u-1"), "{:?}", issuer.algorithm);
            for other in issuers.iter().filter(|other| other.algorithm != issuer.algorithm) {
                assert_eq!(key.verify(&other.sign(None, &claims), NOW), Err(IdentityError::Forged("alg")));
            }
            // The public half, as it lies in the file, is not a secret to sign with.
            for algorithm in [Algorithm::HS256, Algorithm::HS512] {
                let secret = EncodingKey::from_secret(file.as_bytes());
                let token = encode(&Header::new(algorithm), &claims, &secret).expect("signed");
                assert_eq!(key.verify(&token, NOW), Err(IdentityError::Forged("alg")));
            }
        }
    }
    let other = es256().sign(None, &claims);
    assert_eq!(
        with_file(&issuers[1].public_pem).expect("opened").verify(&other, NOW),
        Err(IdentityError::Forged("signature"))
    );
}

#[test]
fn a_key_set_picks_by_kid() {
    let (one, other) = (eddsa(), es256());
    let unusable = json!([
        {"kty": "oct", "k": text(SECRET.as_bytes()), "kid": "secret"},
        {"kty": "OKP", "crv": "X25519", "x": text(&[1; 32]), "kid": "agreement"},
        {"kty": "new-fangled", "kid": "unknown"},
    ]);
    let mut keys = unusable.as_array().expect("an array").clone();
    keys.extend([one.jwk("one"), other.jwk("other")]);
    let key = with_file(&json!({ "keys": keys }).to_string()).expect("opened");
    let claims = json!({"sub": "u"});
    assert_eq!(key.verify(&one.sign(Some("one"), &claims), NOW), visitor("u"));
    assert_eq!(key.verify(&other.sign(Some("other"), &claims), NOW), visitor("u"));
    assert_eq!(key.verify(&one.sign(Some("other"), &claims), NOW), Err(IdentityError::Forged("alg")));
    for kid in [None, Some("third"), Some("secret"), Some("")] {
        assert_eq!(key.verify(&one.sign(kid, &claims), NOW), Err(IdentityError::Forged("kid")), "{kid:?}");
    }
    let header = Header { kid: Some("secret".to_owned()), ..Header::new(Algorithm::HS256) };
    let token = encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed");
    assert_eq!(key.verify(&token, NOW), Err(IdentityError::Forged("kid")));
}

#[test]
fn a_file_without_a_usable_key_is_refused() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let public: PublicKeyX509Der<'_> = p384.public_key().as_der().expect("DER");
    let private = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1()).expect("DER");
    let mut for_encryption = rs256().jwk;
    for_encryption["use"] = json!("enc");
    let mut other_algorithm = rs256().jwk;
    other_algorithm["alg"] = json!("RS512");
    let short_rsa = json!({"kty": "RSA", "n": text(&[0xC1; 128]), "e": "AQAB"});
    for (what, file) in [
        ("nothing", String::new()),
        ("text", "hello".to_owned()),
        ("an empty set", json!({"keys": []}).to_string()),
        ("a secret", json!({"keys": [{"kty": "oct", "k": text(SECRET.as_bytes())}]}).to_string()),
        ("another curve", pem("PUBLIC KEY", public.as_ref())),
        ("a private key", pem("PRIVATE KEY", private.as_ref())),
        ("a key for encryption", json!({"keys": [for_encryption]}).to_string()),
        ("a key of another algorithm", json!({"keys": [other_algorithm]}).to_string()),
        ("a short key", short_rsa.to_string()),
        ("a certificate", pem("CERTIFICATE", b"certificate")),
    ] {
        assert!(with_file(&file).is_err_and(|e| e.to_string().contains("must be a PEM")), "{what}");
    }
    let missing = VisitorKey::open(&auth(&[("auth_public_key", "/nowhere/key.pem")])).expect_err("refused");
    assert!(missing.to_string().contains("/nowhere/key.pem"));
    assert!(VisitorKey::open(&auth(&[])).expect("opened").is_none());
}

#[test]
fn unsigned_changed_and_cut_tokens_are_refused() {
    let (issuer, key) = (eddsa(), with_secret(&[]));
    let public = with_file(&issuer.public_pem).expect("opened");
    let claims = json!({"sub": "u-1"});
    for alg in ["none", "None", "NONE"] {
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
        let token = format!("{head}.{}.", URL_SAFE_NO_PAD.encode(claims.to_string()));
        for key in [&key, &public] {
            assert!(matches!(key.verify(&token, NOW), Err(IdentityError::Forged(_))));
        }
    }
    for (key, good) in [(&key, hs256(&claims)), (&public, issuer.sign(None, &claims))] {
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed.replace_range(at..=at, if &good[at..=at] == "A" { "B" } else { "A" });
            assert!(key.verify(&changed, NOW).is_err(), "changed at {at}");
            assert!(key.verify(&good[..at], NOW).is_err(), "cut at {at}");
        }
    }
    assert_eq!(key.verify(&"A".repeat(9_000), NOW), Err(IdentityError::Forged("too long")));
    let header = Header { alg: Algorithm::HS384, ..Header::default() };
    let token = encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed");
    assert_eq!(key.verify(&token, NOW), Err(IdentityError::Forged("alg")));
}

#[test]
fn a_pass_is_not_an_identity() {
    let header = Header { typ: Some(PASS_TYPE.to_owned()), ..Header::default() };
    let token = encode(&header, &json!({"sub": "u"}), &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed");
    assert_eq!(with_secret(&[]).verify(&token, NOW), Err(IdentityError::Forged("typ")));
}

#[test]
fn an_issued_token_is_taken_until_it_runs_out() {
    let pairs = [("auth_jwt_secret", SECRET), ("auth_audience", "usher"), ("auth_issuer", "login")];
    let (settings, key) = (auth(&pairs), with_secret(&pairs[1..]));
    let id = VisitorId::parse("load-1").expect("an id");
    let token = issue_user_token(&settings, &id, Duration::from_mins(1), NOW).expect("signed");
    assert_eq!(key.verify(&token, NOW), Ok(id.clone()));
    assert_eq!(key.verify(&token, Timestamp::from_seconds(10_065)), Err(IdentityError::Expired));
    assert_eq!(issue_user_token(&auth(&[]), &id, Duration::from_mins(1), NOW), Err(IdentityError::NoSecret));
    let other = AuthSettings { jwt_secret: Some(Secret::new("f".repeat(32))), ..settings };
    let token = issue_user_token(&other, &id, Duration::from_mins(1), NOW).expect("signed");
    assert_eq!(key.verify(&token, NOW), Err(IdentityError::Forged("signature")));
}
