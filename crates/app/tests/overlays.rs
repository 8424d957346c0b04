//! Overlays as their users meet them: over HTTP, from files beside the definitions, and on the command line.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::path::Path;
use std::process::Command;

use harness::{Answer, Server};
use serde_json::{Value, json};

const GATE: &str = "/v1/machines/gate";
const OVERLAY: &str = "/v1/machines/gate/overlay";

const BASE: &str = "\
machine: gate
initial: shut
events: [push]
states:
  shut: { on: { push: open } }
  open: { on: { push: shut } }
";
/// Whoever pushes comes to a porter first.
const PORTER: &str = "\
overlay: gate
tenant: acme
states:
  shut: { on: { push: asked } }
  asked: { on: { push: open } }
";

fn start(dir: &Path) -> Server {
    let store = format!("sqlite:{}", dir.join("gate.db").display());
    let machines = dir.join("machines");
    let machines = machines.to_str().unwrap();
    Server::start(&["dev", "--listen", "127.0.0.1:0", "--store", &store, "--machines", machines], &[])
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("machines")).unwrap();
    files
        .iter()
        .for_each(|(name, text)| std::fs::write(dir.path().join("machines").join(name), text).unwrap());
    dir
}

fn as_tenant(tenant: &str) -> [(&'static str, &str); 1] {
    [("x-tenant", tenant)]
}

fn machine(server: &Server, tenant: &str) -> Value {
    server.get_with(GATE, &as_tenant(tenant)).json()
}

/// The state of a tenant's instance after one push; it is created at the first.
fn push(server: &Server, tenant: &str, id: &str, key: &str) -> Value {
    let headers = as_tenant(tenant);
    let create = json!({"machine": "gate", "id": id, "key": format!("create-{id}")}).to_string();
    let created = server.post_with("/v1/instances", &create, &headers);
    assert!([200, 201].contains(&created.status), "{}", created.body);
    let event = json!({"event": "push", "key": key}).to_string();
    server.post_with(&format!("/v1/instances/{id}/events"), &event, &headers).json()["state"].clone()
}

fn told(answer: &Answer) -> (u16, Value, Value, Value) {
    let body = answer.json();
    let first = &body["diagnostics"][0];
    (answer.status, first["code"].clone(), first["part"].clone(), first["line"].clone())
}

#[test]
fn one_tenant_customises_a_machine_and_another_notices_nothing() {
    let dir = folder(&[("gate.yaml", BASE)]);
    let server = start(dir.path());
    let (acme, other) = (as_tenant("acme"), as_tenant("other"));
    assert_eq!(server.get_with(OVERLAY, &acme).status, 404);
    assert_eq!(push(&server, "acme", "before", "1"), "open");

    let set = server.put_with(OVERLAY, PORTER, &acme);
    assert_eq!((set.status, &set.json()["customised"]), (200, &json!(true)), "{}", set.body);
    assert_eq!(push(&server, "acme", "after", "1"), "asked");
    assert_eq!(push(&server, "acme", "before", "2"), "shut", "what has begun stays on its definition");
    assert_eq!(push(&server, "other", "after", "1"), "open");
    let (own, all) = (machine(&server, "acme"), machine(&server, "other"));
    assert_eq!((&own["hash"], &own["customised"]), (&set.json()["hash"], &json!(true)));
    assert_eq!((&all["customised"], &all["source"]), (&json!(false), &json!(BASE)));
    assert_eq!(server.get_with("/v1/machines", &acme).json()["data"][0]["hash"], own["hash"]);
    let versions = server.get_with(&format!("{GATE}/versions"), &other).json();
    assert_eq!(versions["data"].as_array().unwrap().len(), 1, "another's text is nobody's business");
    let shown = server.get_with(OVERLAY, &acme).json();
    assert_eq!((&shown["overlay"], &shown["fits"]), (&json!(PORTER), &json!(true)), "{shown}");
    assert_eq!(server.get_with(OVERLAY, &other).status, 404);

    server.kill_now();
    let server = start(dir.path());
    assert_eq!(machine(&server, "acme")["hash"], own["hash"]);
    assert_eq!(machine(&server, "other")["hash"], all["hash"]);
    assert_eq!(push(&server, "acme", "after", "2"), "open");

    let removed = server.delete_with(OVERLAY, &acme);
    assert_eq!((removed.status, &removed.json()["hash"]), (200, &all["hash"]), "{}", removed.body);
    assert_eq!(server.delete_with(OVERLAY, &acme).status, 404);
    assert_eq!(push(&server, "acme", "later", "1"), "open");
    assert_eq!(push(&server, "acme", "after", "3"), "shut");
}

#[test]
fn what_does_not_fit_is_told_in_the_lines_of_the_overlay() {
    let dir = folder(&[("gate.yaml", BASE)]);
    let server = start(dir.path());
    let acme = as_tenant("acme");
    let (nowhere, gone) = (
        "overlay: gate\nstates:\n  shut: { on: { push: ajar } }\n",
        "overlay: gate\nstates: { open: null }\n",
    );
    for (text, code, part, line) in [
        (nowhere, "unknown_target", "overlay", 3),
        // The line that is wrong now stands in the base.
        (gone, "unknown_target", "base", 5),
        ("overlay: gate\nstates: { opne: null }\n", "unknown_key", "overlay", 2),
        ("overlay: gate\ntenant: other\nversion: 2\n", "bad_overlay", "overlay", 1),
        ("overlay: door\n", "bad_overlay", "overlay", 1),
        (BASE, "bad_overlay", "overlay", 1),
    ] {
        let answer = server.put_with(OVERLAY, text, &acme);
        assert_eq!(told(&answer), (422, json!(code), json!(part), json!(line)), "{}", answer.body);
    }
    assert_eq!(machine(&server, "acme")["customised"], json!(false));
    let checked = server.post("/v1/machines/check", nowhere);
    assert_eq!(told(&checked), (200, json!("unknown_target"), json!("overlay"), json!(3)));
    assert_eq!(server.post("/v1/machines/check", PORTER).json()["valid"], json!(true));
    let unknown = server.post("/v1/machines/check", "overlay: gaet\n");
    assert_eq!((unknown.status, unknown.json()["code"].clone()), (404, json!("unknown_machine")));
    assert_eq!(server.put_with("/v1/machines/nothing/overlay", PORTER, &acme).status, 404);
    let combined = format!("{BASE}---\n{PORTER}");
    let activated = server.put(GATE, &combined);
    assert_eq!((activated.status, &activated.json()["diagnostics"][0]["code"]), (422, &json!("bad_overlay")));
}

#[test]
fn a_new_base_says_whom_it_does_not_fit_and_breaks_nothing() {
    let dir = folder(&[("gate.yaml", BASE)]);
    let server = start(dir.path());
    let acme = as_tenant("acme");
    let kept = server.put_with(OVERLAY, PORTER, &acme).json()["hash"].clone();
    let renamed = BASE.replace("open", "wide").replace("machine: gate", "machine: gate\nversion: 2");
    let activated = server.put_with(GATE, &renamed, &acme).json();
    let diagnostic = &activated["overlay_diagnostics"][0];
    assert_eq!((&activated["misfits"], &activated["customised"]), (&json!(1), &json!(false)), "{activated}");
    assert_eq!(
        (&diagnostic["code"], &diagnostic["line"]),
        (&json!("unknown_target"), &json!(5)),
        "{activated}"
    );
    let by_other = server.put_with(GATE, &renamed, &as_tenant("other")).json();
    assert_eq!((&by_other["misfits"], by_other.get("overlay_diagnostics")), (&json!(1), None), "{by_other}");
    assert_eq!(machine(&server, "acme")["hash"], kept);
    assert_eq!(server.get_with(OVERLAY, &acme).json()["fits"], json!(false));
    assert_eq!(push(&server, "acme", "a", "1"), "asked");
    assert_eq!(push(&server, "other", "a", "1"), "wide");
    let mended = server.put_with(OVERLAY, &PORTER.replace("push: open", "push: wide"), &acme).json();
    assert_eq!((&mended["version"], &mended["customised"]), (&json!(2), &json!(true)), "{mended}");
}

/// Whether the command ended well, and what it printed.
fn run(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_statewright")).args(arguments).current_dir(dir).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

#[test]
fn a_file_beside_its_base_is_checked_over_it_and_loaded_for_its_tenant() {
    let dir = folder(&[("gate.yaml", BASE), ("gate.acme.yaml", PORTER)]);
    let (sound, printed) = run(dir.path(), &["check", "machines"]);
    assert!(sound && printed.contains("gate.acme.yaml: gate version 1 for acme, over"), "{printed}");
    let (_, diagram) = run(dir.path(), &["diagram", "machines/gate.acme.yaml"]);
    assert!(diagram.contains("asked"), "{diagram}");
    let (_, told) = run(dir.path(), &["chat", "gate.acme"]);
    assert!(told.contains("`gate` has no `conversation`"), "it is found by its file's name: {told}");
    let server = start(dir.path());
    assert_eq!(push(&server, "acme", "a", "1"), "asked");
    assert_eq!(push(&server, "other", "a", "1"), "open");
    drop(server);

    let broken = PORTER.replace("push: open", "push: opne");
    std::fs::write(dir.path().join("machines/gate.acme.yaml"), broken).unwrap();
    let started = ["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", "machines"];
    for arguments in [&["check", "machines/gate.acme.yaml"][..], &started] {
        let (sound, printed) = run(dir.path(), arguments);
        assert!(!sound && printed.contains("gate.acme.yaml:5:"), "{printed}");
        assert!(printed.contains("did you mean `open`?"), "{printed}");
    }
    let (sound, printed) = run(dir.path(), &["check", "machines/gate.acme.yaml", "--json"]);
    let report: Value = serde_json::from_str(&printed).unwrap();
    let first = &report["files"][0]["diagnostics"][0];
    assert_eq!((sound, &first["line"], &first["part"]), (false, &json!(5), &json!("overlay")), "{printed}");
    std::fs::write(dir.path().join("machines/gate.acme.yaml"), "overlay: gaet\n").unwrap();
    let (sound, printed) = run(dir.path(), &["check", "machines"]);
    assert!(!sound && printed.contains("did you mean `gate`?"), "{printed}");
}

#[test]
fn a_flow_that_is_customised_is_begun_and_found_by_its_own_phases() {
    let base = "flow: move\nphases:\n  pack: {}\n  ship: { needs: [pack] }\n";
    let overlay =
        "overlay: move\ntenant: acme\nphases: { insure: { needs: [pack] }, ship: { needs: [insure] } }\n";
    let dir = folder(&[("move.yaml", base), ("move.acme.yaml", overlay)]);
    let server = start(dir.path());
    for (tenant, phases, status) in [("acme", "pack ship insure", 200), ("other", "pack ship", 400)] {
        let headers = as_tenant(tenant);
        let created = server.post_with("/v1/flows", r#"{"key": "1", "flow": "move", "id": "m"}"#, &headers);
        assert_eq!(created.status, 201, "{}", created.body);
        let view = server.get_with("/v1/flows/m", &headers).json();
        let of = view["phases"].as_array().unwrap().iter().map(|phase| phase["phase"].as_str().unwrap());
        assert_eq!(of.collect::<Vec<_>>().join(" "), phases, "{view}");
        let found = server.get_with("/v1/flows?phase=insure", &headers);
        assert_eq!(found.status, status, "{}", found.body);
        let all = server.get_with("/v1/flows", &headers).json();
        assert_eq!(all["data"].as_array().unwrap().len(), 1, "each once: {all}");
    }
}
