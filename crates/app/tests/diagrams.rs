//! Pictures over HTTP: of machines, of their versions, and of instances where they are.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use harness::{Answer, Server};
use serde_json::{Value, json};

const DOOR: &str =
    "machine: door\nversion: 1\ninitial: shut\nstates: { shut: { on: { push: open } }, open: {} }\n";

fn door() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    assert_eq!(server.put("/v1/machines/door", DOOR).status, 200);
    (server, dir)
}

/// The classes of the state or phase with this path.
fn classes(picture: &Answer, path: &str) -> String {
    let group = picture.body.split("<g class=\"").find(|group| {
        let (_, rest) = group.split_once('"').unwrap();
        rest.starts_with(&format!(" data-state=\"{path}\""))
    });
    group.unwrap_or_else(|| panic!("no {path} in {}", picture.body)).split('"').next().unwrap().to_owned()
}

#[test]
fn a_machine_is_drawn_and_an_older_version_too() {
    let (server, _dir) = door();
    let picture = server.get("/v1/machines/door/diagram.svg");
    assert_eq!((picture.status, &*picture.content_type), (200, "image/svg+xml"));
    assert!(picture.body.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{}", picture.body);
    assert_eq!(classes(&picture, "shut"), "sw-state");

    let later = DOOR.replace("version: 1", "version: 2").replace("open: {}", "open: { on: { pull: shut } }");
    assert_eq!(server.put("/v1/machines/door", &later).status, 200);
    let now = server.get("/v1/machines/door/diagram.svg");
    assert!(now.body.contains("data-event=\"pull\""), "{}", now.body);
    assert_eq!(server.get("/v1/machines/door/diagram.svg?version=1").body, picture.body);
    assert_eq!(server.get("/v1/machines/door/diagram.svg?version=7").status, 404);
    assert_eq!(server.get("/v1/machines/window/diagram.svg").status, 404);
}

#[test]
fn who_has_the_picture_is_not_sent_it_again_until_it_changes() {
    let (server, _dir) = door();
    server.post("/v1/instances", &json!({"machine": "door", "id": "d1", "key": "c"}).to_string());
    let (machine, instance) = ("/v1/machines/door/diagram.svg", "/v1/instances/d1/diagram.svg");
    let known = |path: &str| server.get(path).etag.unwrap();
    let etags = [machine, instance].map(known);
    for (path, etag) in [machine, instance].into_iter().zip(&etags) {
        let again = server.get_with(path, &[("if-none-match", etag)]);
        assert_eq!((again.status, &*again.body, again.etag.as_ref()), (304, "", Some(etag)), "{path}");
    }
    server.post("/v1/instances/d1/events", &json!({"event": "push", "key": "e"}).to_string());
    let status = |path: &str, etag: &str| server.get_with(path, &[("if-none-match", etag)]).status;
    assert_eq!((status(machine, &etags[0]), status(instance, &etags[1])), (304, 200));
}

#[test]
fn an_instance_is_lit_where_it_is_with_the_way_it_came() {
    let (server, _dir) = door();
    server.post("/v1/instances", &json!({"machine": "door", "id": "d1", "key": "c"}).to_string());
    let path = "/v1/instances/d1/diagram.svg";
    assert_eq!(classes(&server.get(path), "shut"), "sw-state sw-visited sw-active");
    server.post("/v1/instances/d1/events", &json!({"event": "push", "key": "e"}).to_string());
    let picture = server.get(path);
    assert_eq!(classes(&picture, "shut"), "sw-state sw-visited");
    assert_eq!(classes(&picture, "open"), "sw-state sw-visited sw-active");
    let taken = "<g class=\"sw-edge sw-taken\" data-from=\"shut\" data-to=\"open\" data-event=\"push\">";
    assert!(picture.body.contains(taken), "{}", picture.body);
    assert_eq!(server.get_with(path, &[("x-tenant", "acme")]).status, 404, "another tenant's");
}

#[test]
fn a_flow_shows_how_its_phases_stand() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::dev(&dir.path().join("s.db"), &[]);
    server.post("/v1/flows", &json!({"flow": "discovery", "id": "f1", "key": "c"}).to_string());
    let act = |action: &str, body: Value| {
        server.post(&format!("/v1/flows/f1/phases/data_import/{action}"), &body.to_string())
    };
    act("start", json!({"key": "k1", "by": "ann"}));
    let reported = act("progress", json!({"key": "k2", "progress": 0.5}));
    assert_eq!(reported.status, 200, "{}", reported.body);
    let picture = server.get("/v1/instances/f1/diagram.svg");
    assert_eq!(classes(&picture, "data_import"), "sw-state sw-phase-in_progress");
    assert_eq!(classes(&picture, "field_mapping"), "sw-state sw-phase-not_started");
    assert!(picture.body.contains("sw-progress"), "{}", picture.body);
}
