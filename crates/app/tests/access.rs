//! Who may ask for what, as callers meet it: a server that asks for keys, and the command line.

mod harness;

use harness::Server;
use serde_json::Value;

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
    let keys = [("STATEWRIGHT_API_KEYS", KEYS), ("STATEWRIGHT_BACKUP_KEY", "0123456789abcdef-backup")];
    let server = serve(&[], &keys);
    let document = server.get("/openapi.json").json();
    let mut open = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let address = path.replace('{', "").replace('}', "");
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
