//! Tickets, passes and user tokens that nobody issued: none is taken, and none makes a reader panic.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::config::from_pairs;
use crate::domain::{EventId, Timestamp, VisitorId};
use crate::engine::Admission;
use crate::hostile::{self, change};
use crate::pass::keys::pem;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: Timestamp = Timestamp::from_seconds(1_500);

/// Everything that reads a token, each with tokens that it issued: for one place and for another.
struct Doors {
    tickets: TicketKey,
    passes: [PassKey; 2],
    visitors: VisitorKey,
    /// What the EdDSA key of the passes shows to everybody.
    public: Vec<u8>,
    ticket: [String; 2],
    pass: [[String; 2]; 2],
    user: [String; 2],
}

static DOORS: LazyLock<Doors> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let private = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("DER").as_ref());
    let passes = [
        PassKey::from_pem(private.as_bytes(), "usher").expect("a key"),
        PassKey::from_secret(SECRET.as_bytes(), "usher"),
    ];
    let auth = from_pairs(&[("auth_jwt_secret", SECRET)]).expect("legal").auth;
    let event = EventId::parse("arena").expect("an id");
    let visitor = |name: &str| VisitorId::parse(name).expect("an id");
    let (joined_at, expires_at) = (Timestamp::from_seconds(1_000), Timestamp::from_seconds(2_000));
    let tickets = TicketKey::new(SECRET.as_bytes());
    let ticket = |name: &str, number| {
        tickets.issue(&Ticket { event: event.clone(), visitor: visitor(name), number, joined_at, expires_at })
    };
    let pass = |key: &PassKey, name: &str, number| {
        key.mint(&event, &visitor(name), &Admission { number, admitted_at: joined_at, expires_at }).expect("signed")
    };
    let user = |name: &str| {
        issue_user_token(&auth, &visitor(name), std::time::Duration::from_hours(1), joined_at).expect("signed")
    };
    Doors {
        ticket: [ticket("anna", 41), ticket("berta", 42)],
        pass: [0, 1].map(|at| [pass(&passes[at], "anna", 41), pass(&passes[at], "berta", 42)]),
        user: [user("anna"), user("berta")],
        visitors: VisitorKey::open(&auth).expect("opened").expect("a key"),
        public: pair.public_key().as_ref().to_vec(),
        tickets,
        passes,
    }
});

impl Doors {
    /// Which of the doors let this in.
    fn open_to(&self, token: &str) -> Vec<&'static str> {
        let mut open = Vec::new();
        let mut note = |is_open: bool, door| {
            if is_open {
                open.push(door);
            }
        };
        note(self.tickets.verify(token, NOW).is_ok(), "ticket");
        note(self.passes[0].verify(token, NOW).is_ok(), "EdDSA pass");
        note(self.passes[1].verify(token, NOW).is_ok(), "HS256 pass");
        note(self.visitors.verify(token, NOW).is_ok(), "user token");
        open
    }

    /// Everything that was issued, with the one door that it opens.
    fn issued(&self) -> Vec<(&str, &'static str)> {
        let kinds = [
            (&self.ticket, "ticket"),
            (&self.pass[0], "EdDSA pass"),
            (&self.pass[1], "HS256 pass"),
            (&self.user, "user token"),
        ];
        kinds.into_iter().flat_map(|(texts, door)| texts.iter().map(move |text| (text.as_str(), door))).collect()
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn each_token_opens_its_own_door_and_no_other() {
    // The passes and the user tokens are even signed with one secret here, which the settings would refuse.
    for (token, door) in DOORS.issued() {
        assert_eq!(DOORS.open_to(token), [door], "{token}");
    }
}

proptest! {
    #![proptest_config(hostile::config("tokens"))]

    #[test]
    fn a_changed_token_opens_nothing(which in 0..8_usize, changes in proptest::collection::vec(change(), 1..4)) {
        let (token, _) = DOORS.issued()[which];
        let changed = changes.iter().fold(token.to_owned(), |text, change| {
            if text.is_empty() || !text.is_ascii() { text } else { change.make(&text) }
        });
        if changed == token {
            return Ok(());
        }
        prop_assert_eq!(DOORS.open_to(&changed), Vec::<&str>::new(), "{}", changed);
    }

    /// Header, claims and signature of tokens that were all issued, put together anew.
    #[test]
    fn parts_of_good_tokens_make_no_good_token(parts in [0..6_usize, 0..6, 0..6]) {
        let tokens: Vec<&str> = DOORS.issued().into_iter().skip(2).map(|(token, _)| token).collect();
        let part = |token: usize, at: usize| tokens[token].split('.').nth(at).expect("three parts");
        let [header, claims, signature] = parts;
        let made = [part(header, 0), part(claims, 1), part(signature, 2)].join(".");
        // Tokens of one key have one header: with that of the other it is the same token.
        if tokens.contains(&made.as_str()) {
            return Ok(());
        }
        prop_assert_eq!(DOORS.open_to(&made), Vec::<&str>::new(), "{}", made);
    }

    /// Any header over good claims, signed with what an attacker has: nothing, what is public, or a key of their own.
    #[test]
    fn no_header_talks_the_reader_into_another_key(
        algorithm in select(vec!["none", "None", "", "HS256", "HS384", "HS512", "EdDSA", "ES256", "RS256", "PS512", "nonsense"]),
        kind in prop_oneof![Just(None), select(vec!["JWT", PASS_TYPE, "at+jwt", ""]).prop_map(Some)],
        extra in prop_oneof![
            Just(json!({})), Just(json!({"kid": "../../dev/null"})), Just(json!({"kid": 7})), Just(json!({"crit": ["exp"]})),
            Just(json!({"jku": "http://127.0.0.1/"})), Just(json!({"x5u": "http://127.0.0.1/"})),
            Just(json!({"jwk": {"kty": "oct", "k": "AAAA"}})), Just(json!({"b64": false})), Just(json!({"zip": "DEF"})),
        ],
        of_pass in any::<bool>(), own in proptest::collection::vec(any::<u8>(), 0..70), with in 0..4_usize,
    ) {
        let token = if of_pass { &DOORS.pass[0][0] } else { &DOORS.user[0] };
        let mut header = json!({"alg": algorithm});
        if let Some(kind) = kind {
            header["typ"] = json!(kind);
        }
        if let (Some(header), Some(extra)) = (header.as_object_mut(), extra.as_object()) {
            header.extend(extra.clone());
        }
        let message = format!("{}.{}", encoded(&header), token.split('.').nth(1).expect("three parts"));
        let mac = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec();
        let signature = match with {
            0 => Vec::new(),
            1 => mac(&DOORS.public),
            2 => mac(pem("PUBLIC KEY", &DOORS.public).as_bytes()),
            _ => own,
        };
        let made = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        prop_assert_eq!(DOORS.open_to(&made), Vec::<&str>::new(), "{}", made);
    }

    #[test]
    fn no_text_opens_anything(text in "\\PC{0,300}|[A-Za-z0-9_-]{0,900}|[A-Za-z0-9_-]{0,90}\\.[A-Za-z0-9_-]{0,90}\\.[A-Za-z0-9_-]{0,90}|\\.{0,9}|[A-Za-z0-9_.-]{9000}") {
        prop_assert_eq!(DOORS.open_to(&text), Vec::<&str>::new());
    }

    /// Claims of any shape, signed with the real key: a user token without an id is nobody's, and nothing panics.
    #[test]
    fn odd_claims_that_are_signed_are_no_identity(claims in hostile::spoiled(json!({
        "sub": "anna", "user_id": "anna", "aud": ["usher"], "iss": "me", "exp": 2_000, "nbf": 1_000,
    }))) {
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&header, &claims, &key).expect("signed");
        if let Ok(visitor) = DOORS.visitors.verify(&token, NOW) {
            let said = if claims["sub"].is_null() { &claims["user_id"] } else { &claims["sub"] };
            let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
            prop_assert_eq!(visitor.as_str(), said);
        }
    }
}
