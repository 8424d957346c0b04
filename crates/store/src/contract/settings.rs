//! Settings of tenants.

use serde_json::{Value, json};

use crate::Setting;
use crate::contract::{Open, at, tenant};

fn setting(of: &str, name: &str, body: Value, ms: i64) -> Setting {
    Setting { tenant: tenant(of), name: name.to_owned(), body, saved_at: at(ms) }
}

pub fn the_last_setting_of_a_name_is_kept(open: Open<'_>) {
    let store = open();
    assert_eq!(store.settings(), Ok(vec![]));
    let saved = [
        setting("u", "rollout", json!({ "share": 0.1, "für": [null, "ß", {}] }), 1_000),
        setting("t", "rollout", json!("off"), 1_001),
        setting("t", "quiet hours", json!(null), 1_002),
        setting("t", "rollout", json!({ "share": 0.2 }), 900),
    ];
    for setting in &saved {
        assert_eq!(store.save_setting(setting), Ok(()));
    }
    let [of_other, _, quiet_hours, last] = saved;
    assert_eq!(store.settings(), Ok(vec![quiet_hours, last, of_other]));
}
