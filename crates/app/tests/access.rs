//! Who may ask for what, as callers meet it: a server that asks for keys, and the command line.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::provider::until;
use harness::{Server, header, messages, raw, status_of};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};

const MACHINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../machines");
const KEYS: &str = "acme=0123456789abcdef,other=fedcba9876543210";

fn serve(more: &[&str], environment: &[(&str, &str)]) -> Server {
    let fixed = ["serve", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES];
    Server::start(&[&fixed[..], more].concat(), environment)
}

/// What whoever has no key may ask for; channels are signed by their providers.
const OF_ANYBODY: [(&str, &str); 5] = [
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/openapi.json"),
    ("get", "/v1/channels/{kind}/{machine}"),
    ("post", "/v1/channels/{kind}/{machine}"),
];

#[test]
fn without_a_key_every_address_is_closed_that_is_not_open_on_purpose() {
    let keys = [("STATEWRIGHT_API_KEYS", KEYS), ("STATEWRIGHT_BACKUP_KEY", "0123456789abcdef-of-backups")];
    let server = serve(&[], &keys);
    let document = server.get("/openapi.json").json();
    let mut open = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let address = path.replace(['{', '}'], "");
            let answer = match method.as_str() {
                "get" => server.get(&address),
                "post" => server.post(&address, "{}"),
                "put" => server.put(&address, "{}"),
                "delete" => server.delete_with(&address, &[]),
                other => panic!("{other} {path}"),
            };
            let wants_no_key = operation["security"] == Value::Array(Vec::new());
            if answer.status != 401 {
                assert!(wants_no_key, "{method} {path} is open by mistake: {answer:?}");
                open.push((method.clone(), path.clone()));
            }
        }
    }
    open.sort();
    let mut expected = OF_ANYBODY.map(|(method, path)| (method.to_owned(), path.to_owned())).to_vec();
    expected.sort();
    assert_eq!(open, expected);
}

fn bearer(key: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {key}"))]
}

/// Asks with a key, and says the status and the code of a problem.
fn asked(server: &Server, method: &str, path: &str, body: &str, key: &str) -> (u16, Value) {
    let headers = bearer(key);
    let headers = [(headers[0].0, headers[0].1.as_str())];
    let answer = match method {
        "get" => server.get_with(path, &headers),
        "put" => server.put_with(path, body, &headers),
        "delete" => server.delete_with(path, &headers),
        _ => server.post_with(path, body, &headers),
    };
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body));
    (answer.status, body)
}

fn create(server: &Server, body: &Value, key: &str) -> Value {
    let (status, made) = asked(server, "post", "/v1/api-keys", &body.to_string(), key);
    assert_eq!(status, 201, "{made}");
    made
}

const ADMIN: &str = "0123456789abcdef";
const MESSAGE: &str = "{\"message_id\": \"1\", \"text\": \"update\"}";

#[test]
fn a_key_of_each_scope_opens_what_is_for_it_and_for_those_before() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let path = messages("ann");
    let asks = [
        ("metrics", "get", "/metrics", ""),
        ("metrics", "get", "/readyz?verbose", ""),
        ("read", "get", "/v1/machines", ""),
        ("write", "post", path.as_str(), MESSAGE),
        ("operate", "post", "/v1/recovery", ""),
        ("admin", "get", "/v1/api-keys", ""),
    ];
    assert_eq!(asked(&server, "get", "/readyz?verbose", "", "wrong").0, 401);
    for (scope, ..) in &asks {
        let made = create(&server, &json!({"name": "n", "scope": scope}), ADMIN);
        let key = made["key"].as_str().unwrap();
        for (needed, method, path, body) in &asks {
            let (status, answer) = asked(&server, method, path, body, key);
            let place = |scope: &str| asks.iter().position(|(first, ..)| *first == scope);
            match place(needed) <= place(scope) {
                true => assert_eq!(status, 200, "{scope}: {answer}"),
                false => {
                    assert_eq!((status, &answer["code"]), (403, &json!("insufficient_scope")), "{answer}");
                    assert!(answer["detail"].as_str().unwrap().contains(&format!("`{needed}`")), "{answer}");
                }
            }
        }
    }
}

#[test]
fn a_key_is_made_listed_replaced_and_revoked_within_its_tenant() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let made = create(&server, &json!({"name": "bot", "scope": "write", "expires_in": "30d"}), ADMIN);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with(&format!("sw_{id}_")) && key.len() == 3 + 16 + 1 + 43, "{key}");
    assert_eq!(asked(&server, "post", &messages("ann"), MESSAGE, key).0, 200);

    let list = |key: &str| asked(&server, "get", "/v1/api-keys", "", key).1["data"].clone();
    let listed = list(ADMIN);
    let expected = json!({"id": id, "name": "bot", "scope": "write", "state": "active", "made_by": "settings",
        "made_at": listed[0]["made_at"], "expires_at": made["expires_at"]});
    assert_eq!(listed, json!([expected]), "nothing of the secret");

    // Of another tenant nothing is seen, and nothing is changed.
    let other = "fedcba9876543210";
    assert_eq!(list(other), json!([]));
    let (rotation, revocation) = (format!("/v1/api-keys/{id}/rotate"), format!("/v1/api-keys/{id}"));
    assert_eq!(asked(&server, "post", &rotation, "", other).0, 404);
    assert_eq!(asked(&server, "delete", &revocation, "", other).0, 404);

    let (status, successor) = asked(&server, "post", &rotation, "{\"overlap\": \"1h\"}", ADMIN);
    assert_eq!((status, &successor["scope"]), (201, &json!("write")), "{successor}");
    let new = successor["key"].as_str().unwrap();
    for key in [key, new] {
        assert_eq!(asked(&server, "get", "/v1/machines", "", key).0, 200);
    }
    let listed = list(ADMIN);
    let of = |wanted: &str| listed.as_array().unwrap().iter().find(|key| key["id"] == wanted).unwrap();
    assert_eq!((&of(id)["state"], &of(id)["successor"]), (&json!("retiring"), &successor["id"]));
    let again = asked(&server, "post", &rotation, "", ADMIN);
    assert_eq!((again.0, &again.1["code"]), (409, &json!("key_over")));

    // At once, although it has just been asked for.
    let (status, revoked) = asked(&server, "delete", &revocation, "", ADMIN);
    assert_eq!((status, &revoked["state"]), (200, &json!("revoked")));
    assert_eq!(asked(&server, "get", "/v1/machines", "", key).0, 401);
    assert_eq!(asked(&server, "get", "/v1/machines", "", new).0, 200);
    assert_eq!(asked(&server, "delete", &revocation, "", ADMIN).0, 200, "twice is as good as once");
}

#[test]
fn an_overlap_of_nothing_closes_the_old_key_at_once() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let made = create(&server, &json!({"name": "bot", "scope": "read"}), ADMIN);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(asked(&server, "get", "/v1/machines", "", key).0, 200);
    let (_, successor) =
        asked(&server, "post", &format!("/v1/api-keys/{id}/rotate"), "{\"overlap\": \"0s\"}", ADMIN);
    assert_eq!(asked(&server, "get", "/v1/machines", "", key).0, 401);
    assert_eq!(asked(&server, "get", "/v1/machines", "", successor["key"].as_str().unwrap()).0, 200);
}

#[test]
fn what_is_nearly_a_key_opens_nothing() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let made = create(&server, &json!({"name": "bot", "scope": "read"}), ADMIN);
    let key = made["key"].as_str().unwrap();
    let id = made["id"].as_str().unwrap();
    let shorter = &key[..key.len() - 1];
    let longer = format!("{key}A");
    let empty = format!("sw_{id}_");
    let foreign = format!("sw_0000000000000000_{}", &key[20..]);
    for wrong in [shorter, &longer, &empty, &foreign, id, "", "sw_", "0123456789abcde"] {
        assert_eq!(asked(&server, "get", "/v1/machines", "", wrong).0, 401, "{wrong}");
    }
    assert_eq!(asked(&server, "get", "/v1/machines", "", key).0, 200);
    for body in [
        json!({"name": "", "scope": "read"}),
        json!({"name": "x", "scope": "root"}),
        json!({"name": "x"}),
        json!({"name": "x", "scope": "read", "expires_in": "0s"}),
        json!({"name": "x\ny", "scope": "read"}),
    ] {
        let (status, answer) = asked(&server, "post", "/v1/api-keys", &body.to_string(), ADMIN);
        assert_eq!((status, &answer["code"]), (400, &json!("malformed_body")), "{body}");
    }
}

#[test]
fn wrong_keys_from_one_address_are_refused_slower_and_good_ones_go_on() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let made = create(&server, &json!({"name": "bot", "scope": "read"}), ADMIN);
    let key = made["key"].as_str().unwrap();
    assert_eq!(asked(&server, "get", "/v1/machines", "", key).0, 200);
    let statuses: Vec<u16> = (0..40)
        .map(|guess| asked(&server, "get", "/v1/machines", "", &format!("sw_{guess:016x}_guess")).0)
        .collect();
    assert_eq!((statuses[0], statuses[39]), (401, 429));
    let unseen = create(&server, &json!({"name": "new", "scope": "read"}), ADMIN);
    for good in [key, ADMIN, unseen["key"].as_str().unwrap()] {
        assert_eq!(asked(&server, "get", "/v1/machines", "", good).0, 200);
    }
}

/// `serve` by a settings file.
fn serve_by(dir: &Path, settings: &str) -> Server {
    let config = dir.join("statewright.toml");
    std::fs::write(&config, settings).unwrap();
    let encrypting = ("STATEWRIGHT_ENCRYPTION_KEY", "0f".repeat(32));
    serve(&["--config", config.to_str().unwrap()], &[(encrypting.0, &encrypting.1)])
}

#[test]
fn metrics_are_closed_unless_the_settings_open_them() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    assert_eq!(server.get("/metrics").status, 401);
    let (status, figures) = asked(&server, "get", "/metrics", "", ADMIN);
    assert!(status == 200 && figures.as_str().unwrap().contains("statewright_"));
    let dir = tempfile::tempdir().unwrap();
    let server = serve_by(dir.path(), &format!("open_metrics = true\napi_keys = \"{KEYS}\"\n"));
    assert_eq!((server.get("/metrics").status, server.get("/v1/info").status), (200, 401));
}

/// As an issuer signs it, with HMAC.
fn token(secret: &str, claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part("{\"alg\":\"HS256\"}"), part(&claims.to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes())))
}

#[test]
fn a_token_of_an_issuer_that_the_settings_name_is_as_good_as_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "a secret of an issuer, of 32 bytes and more";
    std::fs::write(dir.path().join("secret"), secret).unwrap();
    let settings = format!(
        "[[jwt]]\nissuer = \"https://id.example\"\naudience = \"statewright\"\nalgorithm = \"HS256\"\nkey = \"file:{}\"\n",
        dir.path().join("secret").display()
    );
    let server = serve_by(dir.path(), &settings);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = |scope: &str, exp: u64| json!({"iss": "https://id.example", "aud": "statewright", "exp": exp, "tenant": "acme", "scope": scope});
    let good = token(secret, &claims("write", now + 600));
    assert_eq!(asked(&server, "post", &messages("ann"), MESSAGE, &good).0, 200);
    assert_eq!(asked(&server, "post", "/v1/recovery", "", &good).0, 403);
    for (wrong, why) in [
        (token(secret, &claims("write", now - 600)), "expired"),
        (token("another secret of thirty-two bytes", &claims("write", now + 600)), "signature"),
        (token(secret, &claims("root", now + 600)), "no scope"),
    ] {
        let (status, answer) = asked(&server, "post", &messages("ann"), MESSAGE, &wrong);
        assert!(status == 401 && answer["detail"].as_str().unwrap().contains(why), "{answer}");
    }
}

fn statewright(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_statewright")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn told(arguments: &[&str]) -> Value {
    let (ok, said, problem) = statewright(arguments);
    assert!(ok, "{problem}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn the_first_key_of_a_store_is_made_without_a_server_and_lets_one_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("s.db").display());
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", &store, "--machines", MACHINES];
    let (ok, _, problem) = statewright(&arguments);
    assert!(!ok && problem.contains("statewright keys create --store"), "{problem}");

    let master = "0f".repeat(32);
    let encrypting = [("STATEWRIGHT_ENCRYPTION_KEY", master.as_str())];
    let create = ["keys", "create", "--store", &store, "--name", "me", "--scope", "admin", "--json"];
    let (ok, _, problem) = statewright(&create);
    assert!(!ok && problem.contains("--tenant"), "{problem}");
    let made = told(&[&create[..], &["--tenant", "acme"]].concat());
    let key = made["key"].as_str().unwrap();

    let server = Server::start(&arguments, &encrypting);
    assert_eq!(asked(&server, "get", "/v1/machines", "", key).0, 200);
    let place = ["--server", &server.url, "--api-key", key, "--json"];
    let ask = |arguments: &[&str]| told(&[&["keys"][..], arguments, &place].concat());
    let bot = ask(&["create", "--name", "bot", "--scope", "write", "--expires", "90d"]);
    let listed = ask(&["ls"]);
    let names: BTreeSet<&str> =
        listed["api_keys"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!((names, &listed["data"]), (["bot", "me"].into(), &json!([])));
    let id = bot["id"].as_str().unwrap();
    let newer = ask(&["rotate", id, "--overlap", "1h"]);
    assert_eq!(ask(&["revoke", id])["state"], json!("revoked"));
    assert_eq!(asked(&server, "get", "/v1/machines", "", bot["key"].as_str().unwrap()).0, 401);
    let (ok, said, _) = statewright(&["keys", "ls", "--server", &server.url, "--api-key", key]);
    assert!(ok && said.contains("`bot` of scope write, revoked") && !said.contains("sw_"), "{said}");

    assert!(server.terminate());
    // What a store keeps is the same for whoever opens it.
    let id = newer["id"].as_str().unwrap();
    let replaced = told(&["keys", "rotate", id, "--overlap", "0s", "--store", &store, "--json"]);
    let listed = told(&["keys", "ls", "--tenant", "acme", "--store", &store, "--json"]);
    let states: Vec<&str> =
        listed["api_keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states.iter().filter(|state| **state == "active").count(), 2, "{listed}");
    assert_eq!(told(&["keys", "revoke", id, "--store", &store, "--json"])["state"], json!("expired"));
    let server = Server::start(&arguments, &encrypting);
    assert_eq!(asked(&server, "get", "/v1/machines", "", newer["key"].as_str().unwrap()).0, 401);
    assert_eq!(asked(&server, "get", "/v1/machines", "", replaced["key"].as_str().unwrap()).0, 200);
}

/// The cookie of whoever signs in, as it is sent back.
fn sign_in(server: &Server, key: &str) -> String {
    let answer = raw(server, "POST /sign-in", "", &format!("key={key}"));
    assert_eq!((status_of(&answer), header(&answer, "location")), (303, Some("/")), "{answer}");
    let cookie = header(&answer, "set-cookie").unwrap();
    for said in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
        assert!(cookie.contains(said), "{cookie}");
    }
    format!("cookie: other=1; {}\r\n", cookie.split(';').next().unwrap())
}

#[test]
fn who_signs_in_has_a_session_of_the_scope_of_the_key_until_they_sign_out() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let made = create(&server, &json!({"name": "ann", "scope": "write"}), ADMIN);
    let cookie = sign_in(&server, made["key"].as_str().unwrap());
    let own = format!("{cookie}sec-fetch-site: same-origin\r\n");
    assert_eq!(status_of(&raw(&server, "GET /v1/machines", &cookie, "")), 200);
    assert_eq!(status_of(&raw(&server, &format!("POST {}", messages("ann")), &own, MESSAGE)), 200);
    assert_eq!(status_of(&raw(&server, "POST /v1/recovery", &own, "")), 403);
    let listed = asked(&server, "get", "/v1/api-keys", "", ADMIN).1;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "sessions are no keys: {listed}");

    // The session's own text is no key to sign in with again.
    let session = cookie.split("statewright_session=").nth(1).unwrap().trim().to_owned();
    let again = raw(&server, "POST /sign-in", "", &format!("key={session}"));
    assert_eq!(header(&again, "location"), Some("/sign-in?wrong"));

    let out = raw(&server, "POST /sign-out", &own, "");
    assert_eq!((status_of(&out), header(&out, "location")), (303, Some("/sign-in")));
    assert!(header(&out, "set-cookie").unwrap().contains("Max-Age=0"), "{out}");
    assert_eq!(status_of(&raw(&server, "GET /v1/machines", &cookie, "")), 401);
}

#[test]
fn a_session_ends_with_the_key_that_it_was_begun_with() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let made = create(&server, &json!({"name": "ann", "scope": "admin"}), ADMIN);
    let cookie = sign_in(&server, made["key"].as_str().unwrap());
    assert_eq!(status_of(&raw(&server, "GET /v1/machines", &cookie, "")), 200);
    asked(&server, "delete", &format!("/v1/api-keys/{}", made["id"].as_str().unwrap()), "", ADMIN);
    assert_eq!(status_of(&raw(&server, "GET /v1/machines", &cookie, "")), 401);
    // A key of the settings is one to sign in with, too.
    let cookie = sign_in(&server, ADMIN);
    assert_eq!(status_of(&raw(&server, "GET /v1/api-keys", &cookie, "")), 200);
}

/// What a browser says of a link that somebody follows, and of a frame.
const FOLLOWED: &str = "sec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n";
const FRAMED: &str = "sec-fetch-mode: navigate\r\nsec-fetch-dest: iframe\r\n";

#[test]
fn what_a_page_of_another_origin_sends_with_the_cookie_is_refused() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let cookie = sign_in(&server, ADMIN);
    let address = server.url.clone();
    let table = [
        ("sec-fetch-site: same-origin\r\n".to_owned(), 200, 200),
        (format!("origin: {address}\r\n"), 200, 200),
        (String::new(), 403, 200),
        ("origin: https://evil.example\r\n".to_owned(), 403, 200),
        ("sec-fetch-site: cross-site\r\n".to_owned(), 403, 403),
        (format!("sec-fetch-site: same-site\r\norigin: {address}\r\n"), 403, 403),
        (format!("sec-fetch-site: same-site\r\n{FOLLOWED}"), 403, 200),
        (format!("sec-fetch-site: same-site\r\n{FRAMED}"), 403, 403),
    ];
    for (said, expected, looking) in table {
        let answer = raw(&server, "POST /v1/recovery", &format!("{cookie}{said}"), "");
        assert_eq!(status_of(&answer), expected, "{said}{answer}");
        assert!(header(&answer, "access-control-allow-origin").is_none());
        let looked = raw(&server, "GET /v1/machines", &format!("{cookie}{said}"), "");
        assert_eq!(status_of(&looked), looking, "{said}{looked}");
    }
    // A program says who it is with every request, and no browser does that for it.
    let program = format!("authorization: Bearer {ADMIN}\r\norigin: https://evil.example\r\n");
    assert_eq!(status_of(&raw(&server, "POST /v1/recovery", &program, "")), 200);
    let foreign = raw(&server, "POST /sign-in", "origin: https://evil.example\r\n", &format!("key={ADMIN}"));
    assert_eq!((status_of(&foreign), header(&foreign, "set-cookie")), (403, None));
}

#[test]
fn wrong_keys_at_the_sign_in_are_told_so_and_soon_not_looked_at() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let wrong = raw(&server, "POST /sign-in", "", "key=wrong");
    assert_eq!((status_of(&wrong), header(&wrong, "location")), (303, Some("/sign-in?wrong")));
    assert!(header(&wrong, "set-cookie").is_none());
    let statuses: Vec<u16> = (0..30)
        .map(|guess| status_of(&raw(&server, "POST /sign-in", "", &format!("key=guess{guess}"))))
        .collect();
    assert_eq!(statuses[29], 429, "{statuses:?}");
    let good = raw(&server, "POST /sign-in", "", &format!("key={ADMIN}"));
    assert!(status_of(&good) == 429 && header(&good, "retry-after").is_some(), "{good}");
}

#[test]
fn wrong_keys_of_programs_and_those_at_the_sign_in_are_counted_apart() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let wrong = || asked(&server, "get", "/v1/machines", "", "wrong").0;
    let statuses: Vec<u16> = (0..30).map(|_| wrong()).collect();
    assert_eq!((statuses[0], statuses[29]), (401, 429));
    sign_in(&server, ADMIN);

    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let at_sign_in = || status_of(&raw(&server, "POST /sign-in", "", "key=wrong"));
    let statuses: Vec<u16> = (0..30).map(|_| at_sign_in()).collect();
    assert_eq!((statuses[0], statuses[29]), (303, 429));
    assert_eq!(asked(&server, "get", "/v1/machines", "", "wrong").0, 401);
}

#[test]
fn a_web_site_reaches_no_server_that_asks_nobody_for_a_key() {
    let server =
        Server::start(&["dev", "--listen", "127.0.0.1:0", "--store", "memory:", "--machines", MACHINES], &[]);
    let post =
        |headers: &str| status_of(&raw(&server, &format!("POST {}", messages("ann")), headers, MESSAGE));
    assert_eq!(post(""), 200);
    assert_eq!(post(&format!("origin: {}\r\n", server.url)), 200);
    for foreign in ["origin: https://evil.example\r\n", "origin: null\r\n", "sec-fetch-site: cross-site\r\n"]
    {
        assert_eq!(post(foreign), 403, "{foreign}");
    }
    let get = |headers: &str| status_of(&raw(&server, "GET /v1/replay", headers, ""));
    for site in ["cross-site", "same-site"] {
        assert_eq!(get(&format!("sec-fetch-site: {site}\r\nsec-fetch-mode: no-cors\r\n")), 403, "{site}");
        assert_eq!(get(&format!("sec-fetch-site: {site}\r\n{FOLLOWED}")), 200, "{site}");
        // Nor does a form that is sent from there.
        assert_eq!(post(&format!("sec-fetch-site: {site}\r\n{FOLLOWED}")), 403, "{site}");
    }
    assert_eq!(get("sec-fetch-site: same-origin\r\nsec-fetch-mode: cors\r\n"), 200);
    assert_eq!(post("host: localhost\r\n"), 200);
    let rebound = raw(&server, "GET /v1/machines", "host: evil.example\r\n", "");
    assert!(status_of(&rebound) == 403 && rebound.contains("unknown_host"), "{rebound}");
    // Nobody need sign in.
    assert_eq!(header(&raw(&server, "POST /sign-in", "", "key=x"), "location"), Some("/"));
}

#[test]
fn elsewhere_than_on_loopback_a_server_wants_tls_or_to_be_told_that_it_is_in_front() {
    let listen = ["serve", "--listen", "0.0.0.0:0", "--store", "memory:", "--machines", MACHINES];
    let output = Command::new(env!("CARGO_BIN_EXE_statewright"))
        .args(listen)
        .env("STATEWRIGHT_API_KEYS", KEYS)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(told.contains("--tls-certificate") && told.contains("--plain-http"), "{told}");
    let encrypting = "0f".repeat(32);
    let environment = [("STATEWRIGHT_API_KEYS", KEYS), ("STATEWRIGHT_ENCRYPTION_KEY", encrypting.as_str())];
    let server = Server::start(&[&listen[..], &["--plain-http"]].concat(), &environment);
    let port = server.url.rsplit(':').next().unwrap();
    let answer = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap()));
    assert!(answer.is_ok());
}

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tls/fixtures");

#[test]
fn a_server_with_a_certificate_speaks_tls_and_shows_another_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    let show = |name: &str| {
        std::fs::copy(format!("{CERTIFICATES}/test_only_{name}.pem"), &certificate).unwrap();
        std::fs::copy(format!("{CERTIFICATES}/test_only_{name}.key.pem"), &key).unwrap();
    };
    show("a");
    let files = ["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = serve(&files, &[("STATEWRIGHT_API_KEYS", KEYS)]);
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let authority = format!("{CERTIFICATES}/test_only_ca.pem");
    let ask = |more: &[&str]| {
        let arguments = ["keys", "ls", "--json", "--server", &server.url, "--api-key", ADMIN];
        statewright(&[&arguments[..], more].concat())
    };
    let (ok, told, problem) = ask(&["--ca-certificate", &authority]);
    assert!(ok && told.contains("api_keys"), "{problem}");
    let (ok, _, problem) = ask(&[]);
    assert!(!ok && problem.contains("failed to reach"), "nobody public has signed it: {problem}");

    let shown = || shown_at(server.url.strip_prefix("https://").unwrap(), &authority);
    let first = shown();
    show("b");
    server.hang_up();
    until(|| shown() != first);
}

/// The certificate that is shown to whoever connects.
fn shown_at(address: &str, authority: &str) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
    connection.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn over_tls_the_cookie_is_for_tls_alone() {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!("public_url = \"https://bot.example.org\"\napi_keys = \"{KEYS}\"\n");
    let server = serve_by(dir.path(), &settings);
    let answer = raw(&server, "POST /sign-in", "", &format!("key={ADMIN}"));
    assert!(header(&answer, "set-cookie").unwrap().ends_with("; Secure"), "{answer}");
}

#[test]
fn who_asks_more_often_than_the_settings_allow_waits_and_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let settings = |limit: &str| {
        format!("api_keys = \"{KEYS}\"\ntrusted_proxies = [\"127.0.0.1\"]\n[limits]\n{limit} = 0.01\n")
    };
    let server = serve_by(dir.path(), &settings("requests_per_second_per_tenant"));
    assert_eq!(asked(&server, "get", "/v1/machines", "", ADMIN).0, 200);
    let (status, limited) = asked(&server, "get", "/v1/machines", "", ADMIN);
    assert_eq!(
        (status, &limited["code"], &limited["retryable"]),
        (429, &json!("rate_limited"), &json!(true))
    );
    assert_eq!(asked(&server, "get", "/v1/machines", "", "fedcba9876543210").0, 200, "another tenant");
    assert_eq!(asked(&server, "get", "/v1/machines", "", "wrong").0, 401);

    let server = serve_by(dir.path(), &settings("requests_per_second_per_address"));
    let of = |address: &str| raw(&server, "GET /livez", &format!("x-forwarded-for: {address}\r\n"), "");
    assert_eq!(status_of(&of("203.0.113.1")), 200);
    let limited = of("203.0.113.1");
    assert!(status_of(&limited) == 429 && header(&limited, "retry-after").unwrap() == "100", "{limited}");
    assert_eq!(status_of(&of("203.0.113.2")), 200);
    // What the nearest proxy has added counts, and not what a client has made up before it.
    assert_eq!(status_of(&of("198.51.100.7, 203.0.113.2")), 429);
}

/// Clients that begin and never end, and bodies without end, are no reason for a good one to wait.
#[test]
fn a_good_client_goes_on_beside_slow_and_oversized_ones() {
    let server = serve(&[], &[("STATEWRIGHT_API_KEYS", KEYS)]);
    let address = server.url.strip_prefix("http://").unwrap();
    let mut slow = Vec::new();
    for number in 0..60 {
        let mut stream = TcpStream::connect(address).unwrap();
        let begun = match number % 3 {
            0 => "GET /livez HT".to_owned(),
            1 => format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{", messages("ann")),
            _ => format!("POST /sign-in HTTP/1.1\r\nhost: {address}\r\ncontent-length: 100\r\n\r\nkey="),
        };
        stream.write_all(begun.as_bytes()).unwrap();
        slow.push(stream);
    }
    let large = format!("{{\"message_id\": \"2\", \"text\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    std::thread::scope(|scope| {
        let oversized = scope.spawn(|| {
            let headers = [("authorization", "Bearer 0123456789abcdef")];
            server.try_post(&messages("eve"), &large, &headers).map(|answer| answer.status)
        });
        for number in 0..20 {
            let body = json!({"message_id": number.to_string(), "text": "update"}).to_string();
            assert_eq!(asked(&server, "post", &messages("bob"), &body, ADMIN).0, 200);
        }
        // Told so, or cut off while it was still sending.
        assert!(!matches!(oversized.join().unwrap(), Ok(status) if status != 413));
    });
    drop(slow);
}
