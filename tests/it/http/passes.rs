//! The pass: what it says, and that no other one opens the door.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use reqwest::Method;
use serde_json::{Value, json};

use super::desk::{RUSH, Signer, admitted_as, asking, booking_id, encoded, part, reservation};
use crate::support::usher::{Setup, World, user_token};

on_every_setup!(
    a_wrong_pass_is_refused_and_no_seat_is_touched,
    a_pass_without_one_of_its_claims_is_refused,
    a_pass_with_a_wrong_claim_is_refused,
    another_algorithm_is_refused,
    a_pass_that_ran_out_is_refused,
    a_used_pass_stays_used,
    a_pass_that_was_given_back_is_void,
    a_pass_of_before_a_reset_is_void,
    the_pass_may_travel_in_the_body,
    the_pass_says_what_the_contract_says,
);

const CLAIMS: [&str; 10] = ["iss", "aud", "sub", "event_id", "user_id", "purpose", "jti", "iat", "nbf", "exp"];

/// A world with ten seats, and the pass of the visitor `ann`.
async fn with_a_pass(setup: Setup) -> (World, String) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": RUSH })).await;
    let (_, pass) = admitted_as(&world, 0, "e", "ann").await;
    (world, pass)
}

/// Sends each of these as the pass of `ann`, on every instance; each must be refused like this, and no seat be touched.
async fn refused_all(world: &World, passes: Vec<(String, String)>, status: u16, code: &str) {
    for (what, pass) in passes {
        for at in 0..world.instances.len() {
            let request = reservation(world, at, "wrong", &asking("e", 1)).bearer_auth(user_token("ann"));
            let reply = world.send(request.header("X-Queue-Pass", &pass)).await;
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{what}: {}", reply.text);
            reply.expect_problem(status, code);
        }
    }
    untouched(world).await;
}

async fn untouched(world: &World) {
    for zone in
        world.admin(Method::GET, "/inventory-status", None).await.expect(200)["zones"].as_array().expect("zones")
    {
        assert_eq!((&zone["taken"], &zone["held"], &zone["available"]), (&json!(0), &json!(0), &json!(10)));
    }
}

/// After all that was refused the good one still opens the door.
async fn still_good(world: &World, pass: &str) {
    let request = reservation(world, 1, "right", &asking("e", 1)).bearer_auth(user_token("ann"));
    world.send(request.header("X-Queue-Pass", pass)).await.expect(201);
    assert_eq!(world.available(0, "e").await, 9);
}

async fn a_wrong_pass_is_refused_and_no_seat_is_touched(setup: Setup) {
    let (world, pass) = with_a_pass(setup).await;
    world.put_event("other", 10, json!({ "admit_per_minute": RUSH })).await;
    let ann = user_token("ann");

    let mut empty = asking("e", 1);
    empty["queue_pass"] = json!("");
    for request in [
        reservation(&world, 1, "none", &empty).bearer_auth(&ann),
        reservation(&world, 0, "none", &asking("e", 1)).bearer_auth(&ann),
        reservation(&world, 1, "none", &asking("e", 1)),
        reservation(&world, 0, "none", &asking("e", 1)).bearer_auth(&ann).header("X-Queue-Pass", ""),
    ] {
        world.send(request).await.expect_problem(401, "QUEUE_PASS_REQUIRED");
    }

    let (_, of_other_event) = admitted_as(&world, 0, "other", "ann").await;
    let (bens_ticket, of_other_visitor) = admitted_as(&world, 0, "e", "ben").await;
    let mismatches = vec![("other event".into(), of_other_event), ("other visitor".into(), of_other_visitor.clone())];
    refused_all(&world, mismatches, 403, "QUEUE_PASS_MISMATCH").await;
    // The same for one who is known by a ticket alone.
    let request = reservation(&world, 0, "wrong", &asking("e", 1)).header("X-Queue-Ticket", &bens_ticket);
    world.send(request.header("X-Queue-Pass", &pass)).await.expect_problem(403, "QUEUE_PASS_MISMATCH");

    let parts: Vec<&str> = pass.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let bens: Vec<&str> = of_other_visitor.split('.').collect();
    let mut forged = vec![
        ("a word".to_owned(), "pass".to_owned()),
        ("dots".to_owned(), "..".to_owned()),
        ("too long".to_owned(), format!("{pass}{}", "A".repeat(5_000))),
        ("a ticket".to_owned(), bens_ticket),
        ("a user token".to_owned(), ann.clone()),
        ("no signature".to_owned(), format!("{header}.{claims}.")),
        ("two parts".to_owned(), format!("{header}.{claims}")),
        ("four parts".to_owned(), format!("{pass}.{signature}")),
        ("another's signature".to_owned(), format!("{header}.{claims}.{}", bens[2])),
        ("another's claims".to_owned(), format!("{header}.{}.{signature}", bens[1])),
    ];
    for length in [1, header.len(), header.len() + 10, pass.len() - 20, pass.len() - 1] {
        forged.push((format!("its first {length} characters"), pass[..length].to_owned()));
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        bytes[at] ^= 1;
        forged.push((
            format!("a bit of byte {at} of the signature"),
            format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(&bytes)),
        ));
        bytes[at] ^= 1;
    }
    let mut richer = part(&pass, 1);
    richer["exp"] = json!(richer["exp"].as_i64().expect("seconds") + 3_600);
    forged.push(("a later end".to_owned(), format!("{header}.{}.{signature}", encoded(&richer))));
    refused_all(&world, forged, 403, "INVALID_QUEUE_PASS").await;
    still_good(&world, &pass).await;
}

async fn a_pass_without_one_of_its_claims_is_refused(setup: Setup) {
    let (world, pass) = with_a_pass(setup).await;
    let (signer, claims) = (Signer::of(&world), part(&pass, 1));
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().expect("claims").remove(name).expect("the pass has it");
        (format!("without {name}"), signer.sign(&pass, &claims, |_| ()))
    };
    let mut wrong: Vec<_> = CLAIMS.into_iter().map(without).collect();
    wrong.push(("no claims".to_owned(), signer.sign(&pass, &json!({}), |_| ())));
    refused_all(&world, wrong, 403, "INVALID_QUEUE_PASS").await;
    // The same key and the same claims do open the door: it was the claim that was missing, not the signature.
    still_good(&world, &signer.sign(&pass, &claims, |_| ())).await;
}

async fn a_pass_with_a_wrong_claim_is_refused(setup: Setup) {
    let (world, pass) = with_a_pass(setup).await;
    let (signer, claims) = (Signer::of(&world), part(&pass, 1));
    let now = claims["iat"].as_i64().expect("seconds");
    let with = |changes: &[(&str, Value)]| {
        let mut claims = claims.clone();
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        (format!("with {changes:?}"), signer.sign(&pass, &claims, |_| ()))
    };
    let mut wrong: Vec<_> = [
        ("purpose", json!("ticket")),
        ("purpose", json!(null)),
        ("iss", json!("somebody")),
        ("iss", json!(["usher"])),
        ("aud", json!("other")),
        ("aud", json!(["e", "other"])),
        ("event_id", json!("other")),
        ("sub", json!("ben")),
        ("user_id", json!("ben")),
        ("jti", json!("e.999")),
        ("exp", json!("tomorrow")),
        ("exp", json!(now + 100_000)),
        ("iat", json!(now - 100)),
        ("nbf", json!(now + 1)),
    ]
    .into_iter()
    .map(|change| with(&[change]))
    .collect();
    wrong.push(("another typ".to_owned(), signer.sign(&pass, &claims, |header| header.typ = Some("JWT".to_owned()))));
    wrong.push(("no typ".to_owned(), signer.sign(&pass, &claims, |header| header.typ = None)));
    let critical = |header: &mut Header| header.crit = Some(vec!["b64".to_owned()]);
    wrong.push(("something critical".to_owned(), signer.sign(&pass, &claims, critical)));
    refused_all(&world, wrong, 403, "INVALID_QUEUE_PASS").await;
    still_good(&world, &pass).await;
}

async fn another_algorithm_is_refused(setup: Setup) {
    let (world, pass) = with_a_pass(setup).await;
    let parts: Vec<&str> = pass.split('.').collect();
    let (claims, header) = (part(&pass, 1), part(&pass, 0));
    let mut wrong = Vec::new();
    for name in ["none", "None", "NONE", ""] {
        let mut header = header.clone();
        header["alg"] = json!(name);
        for signature in ["", parts[2]] {
            wrong.push((format!("alg {name:?}"), format!("{}.{}.{signature}", encoded(&header), parts[1])));
        }
    }
    let mut confuse = |what: &str, algorithm, key: &EncodingKey| {
        let header = Header { alg: algorithm, ..serde_json::from_value(header.clone()).expect("a header") };
        wrong.push((what.to_owned(), jsonwebtoken::encode(&header, &claims, key).expect("signed")));
    };
    if let Some(secret) = &world.settings.pass.secret {
        let key = EncodingKey::from_secret(secret.expose_bytes());
        confuse("HS384 with the secret", Algorithm::HS384, &key);
        confuse("HS512 with the secret", Algorithm::HS512, &key);
    } else {
        // The public key is no secret: it must not be taken for one.
        let jwks = world.send(world.client.get(world.url(0, "/.well-known/jwks.json"))).await.expect(200);
        let x = jwks["keys"][0]["x"].as_str().expect("a key");
        let raw = URL_SAFE_NO_PAD.decode(x).expect("base64url");
        let spki = [&[48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0], &raw[..]].concat();
        let base64 = base64::engine::general_purpose::STANDARD.encode(&spki);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
        for (what, bytes) in [
            ("HS256 with the raw public key", &raw[..]),
            ("HS256 with the public key as text", x.as_bytes()),
            ("HS256 with the public key as DER", &spki),
            ("HS256 with the public key as PEM", pem.as_bytes()),
            ("HS256 with the key set", jwks.to_string().as_bytes()),
            ("HS256 with nothing", b""),
        ] {
            confuse(what, Algorithm::HS256, &EncodingKey::from_secret(bytes));
        }
    }
    confuse("EdDSA with a key of one's own", Algorithm::EdDSA, &key_of_ones_own());
    refused_all(&world, wrong, 403, "INVALID_QUEUE_PASS").await;
    still_good(&world, &pass).await;
}

fn key_of_ones_own() -> EncodingKey {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
    EncodingKey::from_ed_der(document.as_ref())
}

async fn a_pass_that_ran_out_is_refused(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": RUSH, "pass_ttl_seconds": 3 })).await;
    let (ticket, pass) = admitted_as(&world, 0, "e", "ann").await;
    for _ in 0..200 {
        if world.position(0, "e", &ticket).await.expect(200)["state"] == "expired" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let place = world.position(0, "e", &ticket).await.expect(200);
    assert_eq!((&place["state"], &place["queue_pass"]), (&json!("expired"), &Value::Null));
    refused_all(&world, vec![("ran out".to_owned(), pass.clone())], 403, "QUEUE_PASS_EXPIRED").await;

    // The visitor may join again, and the new pass is another one. This one must last for the rest of the test.
    let patch = world.admin(Method::PATCH, "/events/e/queue", Some(json!({ "pass_ttl_seconds": 300 }))).await;
    patch.expect(200);
    let (_, fresh) = admitted_as(&world, 1, "e", "ann").await;
    assert_ne!(part(&fresh, 1)["jti"], part(&pass, 1)["jti"]);
    refused_all(&world, vec![("ran out".to_owned(), pass)], 403, "QUEUE_PASS_EXPIRED").await;
    still_good(&world, &fresh).await;
}

async fn a_used_pass_stays_used(setup: Setup) {
    let (world, pass) = with_a_pass(setup).await;
    let ann = user_token("ann");
    let booking = booking_id(&world.reserve(0, "e", &pass, "k1", 2).await);
    let used = vec![("used".to_owned(), pass.clone())];
    for at in 0..2 {
        world.reserve(at, "e", &pass, "k2", 1).await.expect_problem(403, "QUEUE_PASS_USED");
    }
    let cancel = world.request(1, Method::DELETE, &format!("/bookings/{booking}")).bearer_auth(&ann);
    world.send(cancel).await.expect(200);
    refused_all(&world, used, 403, "QUEUE_PASS_USED").await;

    // A new place gives a new pass, and does not bring the old one back.
    let (_, fresh) = admitted_as(&world, 0, "e", "ann").await;
    let again = world.reserve(1, "e", &pass, "k3", 1).await;
    assert_eq!(again.status, 403, "{}", again.text);
    still_good(&world, &fresh).await;
}

async fn a_pass_that_was_given_back_is_void(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": RUSH, "max_active": 1 })).await;
    let (ticket, pass) = admitted_as(&world, 0, "e", "ann").await;
    let waiting = world.join_as(0, "e", "ben").await.expect(201)["token"].as_str().expect("a ticket").to_owned();
    assert_eq!(world.position(0, "e", &waiting).await.expect(200)["state"], "waiting");
    let leave = world.request(0, Method::DELETE, "/queue/leave").bearer_auth(user_token("ann"));
    world.send(leave.json(&json!({ "event_id": "e", "token": ticket }))).await.expect(200);
    refused_all(&world, vec![("given back".to_owned(), pass)], 403, "INVALID_QUEUE_PASS").await;
    world.pass(1, "e", &waiting).await;
}

async fn a_pass_of_before_a_reset_is_void(setup: Setup) {
    let (world, pass) = with_a_pass(setup).await;
    world.admin(Method::POST, "/events/e/reset", Some(json!({ "confirm": "e" }))).await.expect(200);
    refused_all(&world, vec![("of before the reset".to_owned(), pass.clone())], 403, "INVALID_QUEUE_PASS").await;
    let (_, fresh) = admitted_as(&world, 1, "e", "ann").await;
    let number = |pass: &str| {
        let id = part(pass, 1)["jti"].as_str().expect("an id").to_owned();
        id.rsplit_once('.').expect("event and number").1.parse::<u64>().expect("a number")
    };
    assert!(number(&fresh) > number(&pass), "numbers are never handed out twice");
    refused_all(&world, vec![("of before the reset".to_owned(), pass)], 403, "INVALID_QUEUE_PASS").await;
    still_good(&world, &fresh).await;
}

async fn the_pass_may_travel_in_the_body(setup: Setup) {
    let (world, pass) = with_a_pass(setup).await;
    let mut body = asking("e", 1);
    body["queue_pass"] = json!(format!("{pass}x"));
    world.send(reservation(&world, 0, "k", &body)).await.expect_problem(403, "INVALID_QUEUE_PASS");
    untouched(&world).await;
    body["queue_pass"] = json!(pass);
    let first = world.send(reservation(&world, 0, "k", &body)).await;
    first.expect(201);
    // Where the pass travels is no part of the request.
    assert_eq!(world.reserve(1, "e", &pass, "k", 1).await.text, first.text);
}

async fn the_pass_says_what_the_contract_says(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": RUSH, "pass_ttl_seconds": 120 })).await;
    let (ticket, pass) = admitted_as(&world, 0, "e", "ann").await;

    let (header, claims) = (part(&pass, 0), part(&pass, 1));
    let signer = Signer::of(&world);
    assert_eq!(header["alg"], json!(signer.algorithm));
    for field in ["kid", "typ"] {
        assert!(header[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {header}");
    }
    for (claim, value) in [
        ("iss", "usher"),
        ("aud", "e"),
        ("sub", "ann"),
        ("event_id", "e"),
        ("user_id", "ann"),
        ("purpose", "queue_pass"),
    ] {
        assert_eq!(claims[claim], value, "{claim}");
    }
    assert!(CLAIMS.iter().all(|claim| !claims[claim].is_null()), "{claims}");
    let seconds = |claim: &str| claims[claim].as_i64().expect("seconds");
    assert_eq!((seconds("exp") - seconds("iat"), seconds("nbf")), (120, seconds("iat")));

    // Others verify it with nothing but the published key.
    let jwks = world.send(world.client.get(world.url(0, "/.well-known/jwks.json"))).await.expect(200);
    let key = if let Some(secret) = &world.settings.pass.secret {
        assert_eq!(jwks, json!({ "keys": [] }), "a secret is not published");
        DecodingKey::from_secret(secret.expose_bytes())
    } else {
        assert_eq!((&jwks["keys"][0]["kid"], &jwks["keys"][0]["alg"]), (&header["kid"], &json!("EdDSA")));
        assert!(jwks["keys"][0].get("d").is_none(), "the private key is not published");
        DecodingKey::from_jwk(&serde_json::from_value(jwks["keys"][0].clone()).expect("a JWK")).expect("a key")
    };
    let mut rules = Validation::new(signer.algorithm);
    rules.set_audience(&["e"]);
    rules.set_issuer(&["usher"]);
    rules.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    rules.validate_nbf = true;
    let read = jsonwebtoken::decode::<Value>(&pass, &key, &rules).expect("verified");
    assert_eq!(read.claims, claims);

    // The same claims at every poll, on every instance.
    for at in 0..2 {
        assert_eq!(part(&world.pass(at, "e", &ticket).await, 1), claims);
    }
}
