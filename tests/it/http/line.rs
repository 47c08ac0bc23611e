//! Join, position, leave, status.

use serde_json::json;

use crate::support::usher::{Setup, World};

on_every_setup!(a_visitor_goes_through_the_line_and_books);

async fn a_visitor_goes_through_the_line_and_books(setup: Setup) {
    let world = World::start(setup).await;
    world.put_event("e", 10, json!({ "admit_per_minute": 6000 })).await;
    let joined = world.join(0, "e").await;
    let body = joined.expect(201);
    assert_eq!((&body["position"], &body["total_in_queue"], &body["is_ready"]), (&json!(1), &json!(1), &json!(false)));
    let ticket = body["token"].as_str().expect("a ticket");
    let pass = world.pass(1, "e", ticket).await;
    let reserved = world.reserve(1, "e", &pass, "k1", 2).await;
    let body = reserved.expect(201);
    assert_eq!(
        (&body["status"], &body["total_price"], &body["quantity"]),
        (&json!("reserved"), &json!(200.0), &json!(2))
    );
    assert_eq!(world.reserve(0, "e", &pass, "k1", 2).await.text, reserved.text, "the first answer, byte for byte");
    world.reserve(0, "e", &pass, "k2", 2).await.expect_problem(403, "QUEUE_PASS_USED");
    assert_eq!(world.available(0, "e").await, 8);
    assert_eq!(world.position(0, "e", ticket).await.expect(200)["state"], "used");
}
