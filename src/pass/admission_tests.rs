use jsonwebtoken::encode;
use serde_json::{Value, json};

use super::*;
use crate::pass::keys::pem;

const ISSUER: &str = "usher";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A key made for the test, with what is needed to sign other things with it.
struct Signer {
    key: PassKey,
    signing: EncodingKey,
    public: Vec<u8>,
    algorithm: Algorithm,
}

fn eddsa() -> Signer {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let text = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("DER").as_ref());
    Signer {
        key: PassKey::from_pem(text.as_bytes(), ISSUER).expect("a key"),
        signing: EncodingKey::from_ed_pem(text.as_bytes()).expect("a key"),
        public: pair.public_key().as_ref().to_vec(),
        algorithm: Algorithm::EdDSA,
    }
}

fn hs256() -> Signer {
    Signer {
        key: PassKey::from_secret(SECRET, ISSUER),
        signing: EncodingKey::from_secret(SECRET),
        public: Vec::new(),
        algorithm: Algorithm::HS256,
    }
}

impl Signer {
    fn header(&self) -> Header {
        Header { typ: Some(PASS_TYPE.to_owned()), ..Header::new(self.algorithm) }
    }

    fn sign(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.signing).expect("signed")
    }
}

fn event() -> EventId {
    EventId::parse("arena").expect("an id")
}

fn visitor() -> VisitorId {
    VisitorId::parse("visitor-1").expect("an id")
}

fn admission() -> Admission {
    Admission {
        number: 42,
        admitted_at: Timestamp::from_micros(1_000_250_001),
        expires_at: Timestamp::from_micros(1_300_250_001),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn claims() -> Value {
    json!({
        "iss": "usher", "aud": "arena", "sub": "visitor-1", "event_id": "arena", "user_id": "visitor-1",
        "purpose": "queue_pass", "jti": "arena.42", "iat": 1_000, "nbf": 1_000, "exp": 1_300,
        "num": 42, "adm": 1_000_250_001, "xpr": 1_300_250_001,
    })
}

fn forged(signer: &Signer, token: &str) -> &'static str {
    match signer.key.verify(token, at(1_100)) {
        Err(PassError::Forged(what)) => what,
        other => panic!("{other:?} for {token}"),
    }
}

fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn a_pass_says_what_the_contract_says_and_the_same_each_time() {
    for signer in [eddsa(), hs256()] {
        let token = signer.key.mint(&event(), &visitor(), &admission()).expect("signed");
        assert_eq!(part(&token, 1), claims());
        let header = part(&token, 0);
        assert_eq!(header["typ"], PASS_TYPE);
        assert_eq!(header["alg"], if signer.public.is_empty() { "HS256" } else { "EdDSA" });
        assert!(header["kid"].as_str().is_some_and(|kid| kid.len() >= 16));
        assert_eq!(signer.key.mint(&event(), &visitor(), &admission()).expect("signed"), token);

        let pass = signer.key.verify(&token, at(1_100)).expect("good");
        assert_eq!((&pass.event, &pass.visitor, &pass.admission), (&event(), &visitor(), &admission()));
        assert_eq!(pass.id, pass_id(&event(), 42));
        assert_eq!(pass.claimed().number, 42);
    }
}

#[test]
fn a_pass_is_good_from_nbf_to_exp() {
    for signer in [eddsa(), hs256()] {
        let token = signer.sign(&claims());
        assert_eq!(signer.key.verify(&token, at(994)), Err(PassError::NotYetValid));
        assert!(signer.key.verify(&token, at(995)).is_ok(), "clocks may be five seconds apart");
        assert!(signer.key.verify(&token, at(1_299)).is_ok());
        match signer.key.verify(&token, at(1_300)) {
            Err(PassError::Expired(pass)) => assert_eq!(pass.id.as_str(), "arena.42"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_pass_without_one_of_its_claims_is_refused() {
    for signer in [eddsa(), hs256()] {
        for name in claims().as_object().expect("an object").keys() {
            let mut without = claims();
            without.as_object_mut().expect("an object").remove(name);
            assert_eq!(forged(&signer, &signer.sign(&without)), "claims", "{name}");
            without[name] = Value::Null;
            assert_eq!(forged(&signer, &signer.sign(&without)), "claims", "{name}");
        }
    }
}

#[test]
fn a_pass_whose_claims_disagree_is_refused() {
    let signer = eddsa();
    for (name, value, says) in [
        ("purpose", json!("login"), "purpose"),
        ("iss", json!("somebody"), "iss"),
        ("aud", json!("other"), "aud"),
        ("aud", json!(["arena", "other"]), "claims"),
        ("event_id", json!("other"), "aud"),
        ("sub", json!("visitor-2"), "sub"),
        ("user_id", json!("visitor-2"), "sub"),
        ("user_id", json!("visitor 2"), "claims"),
        ("jti", json!("arena.43"), "jti"),
        ("num", json!(43), "jti"),
        ("num", json!(-1), "claims"),
        ("exp", json!(9_999), "exp"),
        ("exp", json!("1300"), "claims"),
        ("xpr", json!(9_999_000_000_i64), "exp"),
        ("nbf", json!(0), "iat"),
        ("adm", json!(0), "iat"),
    ] {
        let mut changed = claims();
        changed[name] = value;
        assert_eq!(forged(&signer, &signer.sign(&changed)), says, "{name}");
    }
}

#[test]
fn a_token_of_another_type_is_refused() {
    let signer = eddsa();
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("QUEUE-PASS+JWT")] {
        let header = Header { typ: typ.map(str::to_owned), ..signer.header() };
        let token = encode(&header, &claims(), &signer.signing).expect("signed");
        assert_eq!(forged(&signer, &token), "typ", "{typ:?}");
    }
    let header = Header { crit: Some(vec!["exp".to_owned()]), ..signer.header() };
    assert_eq!(forged(&signer, &encode(&header, &claims(), &signer.signing).expect("signed")), "crit");
}

#[test]
fn a_token_without_signature_is_refused() {
    for signer in [eddsa(), hs256()] {
        let good = signer.sign(&claims());
        let signature = good.rsplit('.').next().expect("three parts");
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let header = json!({"typ": PASS_TYPE, "alg": alg});
            for end in ["", signature] {
                forged(&signer, &format!("{}.{}.{end}", encoded(&header), encoded(&claims())));
            }
        }
        let header = json!({"typ": PASS_TYPE});
        forged(&signer, &format!("{}.{}.{signature}", encoded(&header), encoded(&claims())));
        forged(&signer, &format!("{}.{}.", encoded(&part(&good, 0)), encoded(&claims())));
    }
}

#[test]
fn the_public_key_is_no_secret_and_the_algorithm_is_the_keys() {
    let (signer, other) = (eddsa(), hs256());
    let public_pem = pem("PUBLIC KEY", &signer.public);
    for secret in [&signer.public[..], public_pem.as_bytes(), URL_SAFE_NO_PAD.encode(&signer.public).as_bytes()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { alg: algorithm, ..signer.header() };
            let token = encode(&header, &claims(), &EncodingKey::from_secret(secret)).expect("signed");
            assert_eq!(forged(&signer, &token), "alg");
        }
    }
    // The right secret with another hash, the right signature under another name, and each key at the other's door.
    let header = Header { alg: Algorithm::HS512, ..other.header() };
    assert_eq!(forged(&other, &encode(&header, &claims(), &other.signing).expect("signed")), "alg");
    let good = other.sign(&claims());
    let renamed = json!({"typ": PASS_TYPE, "alg": "EdDSA"});
    let rest = good.split_once('.').expect("three parts").1;
    assert_eq!(forged(&other, &format!("{}.{rest}", encoded(&renamed))), "alg");
    assert_eq!(forged(&signer, &other.sign(&claims())), "alg");
    assert_eq!(forged(&other, &signer.sign(&claims())), "alg");
}

#[test]
fn a_pass_of_another_key_is_refused() {
    assert_eq!(forged(&eddsa(), &eddsa().sign(&claims())), "signature");
    let other = PassKey::from_secret(&[9; 32], ISSUER).mint(&event(), &visitor(), &admission()).expect("signed");
    assert_eq!(forged(&hs256(), &other), "signature");
    let other = PassKey::from_secret(SECRET, "other").mint(&event(), &visitor(), &admission()).expect("signed");
    assert_eq!(forged(&hs256(), &other), "iss");
}

#[test]
fn every_changed_or_cut_pass_is_refused() {
    for signer in [eddsa(), hs256()] {
        let token = signer.key.mint(&event(), &visitor(), &admission()).expect("signed");
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed.replace_range(at..=at, if &token[at..=at] == "A" { "B" } else { "A" });
            forged(&signer, &changed);
            forged(&signer, &token[..at]);
        }
        for wrong in
            [format!("{token}A"), format!("{token}="), format!("{token}.A"), "A".repeat(5_000), "..".to_owned()]
        {
            forged(&signer, &wrong);
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,300}", a in "[A-Za-z0-9_-]{0,60}", b in "[A-Za-z0-9_-]{0,60}") {
        let key = PassKey::from_secret(SECRET, ISSUER);
        proptest::prop_assert!(key.verify(&text, at(0)).is_err());
        let dotted = format!("{}.{a}.{b}", encoded(&json!({"typ": PASS_TYPE, "alg": "HS256"})));
        proptest::prop_assert!(key.verify(&dotted, at(0)).is_err());
    }
}

#[test]
fn a_pass_id_is_always_legal_and_never_shared() {
    let id = |event: &str, number| pass_id(&EventId::parse(event).expect("an id"), number).as_str().to_owned();
    assert_eq!(id("arena", 7), "arena.7");
    assert_ne!(id("a.1", 2), id("a", 12));
    let long = "x".repeat(128);
    assert!(id(&long, u64::MAX).starts_with("sha256:"));
    assert_ne!(id(&long, 1), id(&format!("{}y", "x".repeat(127)), 1));
    // An event that is named as the digest of another still has other passes.
    let named_so = id(&long, 1);
    assert_ne!(id(&named_so, 1), id(&long, 1));
    assert_ne!(id(named_so.rsplit_once(':').expect("three parts").0, 1), named_so);
}

#[test]
fn the_longest_pass_is_within_the_bound() {
    let (event, visitor) =
        (EventId::parse(&"e".repeat(128)).expect("an id"), VisitorId::parse(&"v".repeat(128)).expect("an id"));
    let issuer = "\u{1F3AB}".repeat(200);
    let pair = Ed25519KeyPair::generate().expect("a key");
    let text = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("DER").as_ref());
    let key = PassKey::from_pem(text.as_bytes(), &issuer).expect("a key");
    let admission = Admission { number: u64::MAX, admitted_at: at(4_000_000_000), expires_at: at(4_000_000_001) };
    let token = key.mint(&event, &visitor, &admission).expect("signed");
    assert!(token.len() <= MAX_PASS_LEN, "{}", token.len());
    assert!(key.verify(&token, at(4_000_000_000)).is_ok());
}

#[test]
fn the_public_key_is_published_and_the_secret_is_not() {
    let signer = eddsa();
    let jwks = signer.key.jwks();
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks.clone()).expect("a JWK Set");
    let token = signer.key.mint(&event(), &visitor(), &admission()).expect("signed");
    let kid = part(&token, 0)["kid"].as_str().expect("a kid").to_owned();
    let jwk = set.find(&kid).expect("the key that the pass names");
    assert_eq!(jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).expect("a thumbprint"), kid);
    // A third party verifies with what is published.
    let mut validation = jsonwebtoken::Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.set_audience(&["arena"]);
    let key = DecodingKey::from_jwk(jwk).expect("a key");
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok());
    assert_eq!(hs256().key.jwks(), json!({"keys": []}));
    assert!(!format!("{:?} {:?}", signer.key, hs256().key).contains("0123456789abcdef"));
}

/// The key of RFC 8037, appendix A, in the form that `openssl genpkey -algorithm ed25519` writes.
#[test]
fn a_key_made_elsewhere_has_the_name_that_the_standard_gives_it() {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64url");
    let text = pem("PRIVATE KEY", &[&head[..], &seed].concat());
    let jwks = PassKey::from_pem(text.as_bytes(), ISSUER).expect("a key").jwks();
    assert_eq!(jwks["keys"][0]["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(jwks["keys"][0]["kid"], "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    for wrong in ["", "nonsense", &text.replace("PRIVATE", "PUBLIC"), &text[..60]] {
        assert!(PassKey::from_pem(wrong.as_bytes(), ISSUER).is_err(), "{wrong}");
    }
}
