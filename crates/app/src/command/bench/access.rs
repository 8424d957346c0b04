//! What it costs a request that a server asks for a key: the same cheap question to one that asks for none, and to one that is
//! shown a key. In process, without a socket, so that it is the asking that is seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use kernel::id::TenantId;
use store::MemoryStore;

use crate::access::api_key::{self, Wanted};
use crate::access::{Access, Holder, Scope};
use crate::command::Failure;
use crate::command::bench::line::{Round, Rounds};
use crate::command::bench::{Bench, Told, conversation};
use crate::connections::Connections;
use crate::http::{App, Shared, answer, router};

/// It reads nothing of the store.
const ASKED: &str = "/v1/machines";
const ROUNDS: u32 = 5;
/// Between two looks at the clock.
const AT_ONCE: usize = 100;
const OF_SETTINGS: &str = "0123456789abcdef";

/// A server, and what is shown to it.
struct Asked {
    what: &'static str,
    app: Shared,
    router: Router,
    authorization: Option<String>,
    rounds: Rounds,
}

pub(super) fn measure(bench: &Bench, told: Told<'_>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let closed = app(Access::from_pairs(&format!("default={OF_SETTINGS}")).map_err(Failure)?)?;
        let holder = Holder { tenant: TenantId::default_tenant(), scope: Scope::Read, who: "bench".into() };
        let wanted = Wanted { holder, made_by: "bench".to_owned(), expires_at: None, session_of: None };
        let stored =
            closed.make_key(&wanted).await.map_err(|problem| Failure(problem.detail().to_owned()))?;
        let bearer = |key: &str| Some(format!("Bearer {key}"));
        let mut all = [
            Asked::of("access: a request with a key of the store", &closed, bearer(&stored.text)),
            Asked::of("access: a request with a key of the settings", &closed, bearer(OF_SETTINGS)),
            Asked::of("  floor: the request to a server without keys", &app(Access::open())?, None),
        ];
        let time = bench.time / (ROUNDS * all.len() as u32);
        for _ in 0..ROUNDS {
            for asked in &mut all {
                asked.round(time).await?;
            }
        }
        let floor = all[2].rounds.per_second();
        for asked in all {
            let line = asked.rounds.line(asked.what);
            told(if asked.authorization.is_some() { line.beside("without a key", floor) } else { line });
        }
        Ok(())
    })
}

fn app(access: Access) -> Result<Shared, Failure> {
    let engine = conversation::engine(Arc::new(MemoryStore::new()))?;
    api_key::activate(engine.machines(), engine.store(), engine.clock().now())?;
    Ok(Arc::new(App::new(engine, access, String::new(), Arc::new(Connections::default()))))
}

impl Asked {
    fn of(what: &'static str, app: &Shared, authorization: Option<String>) -> Self {
        let (app, router) = (Arc::clone(app), router(Arc::clone(app)));
        Self { what, app, router, authorization, rounds: Rounds::default() }
    }

    async fn round(&mut self, time: Duration) -> Result<(), Failure> {
        let (mut events, started) = (0, Instant::now());
        while started.elapsed() < time {
            for _ in 0..AT_ONCE {
                let mut request = Request::get(ASKED);
                if let Some(authorization) = &self.authorization {
                    request = request.header("authorization", authorization);
                }
                let request = request.body(Body::empty()).map_err(|error| Failure(error.to_string()))?;
                let answer = answer(Arc::clone(&self.app), self.router.clone(), request).await;
                if answer.status() != 200 {
                    return Err(Failure(format!(
                        "the server answered the benchmark with {}",
                        answer.status()
                    )));
                }
            }
            events += AT_ONCE;
        }
        self.rounds.0.push(Round { events, elapsed: started.elapsed(), ..Round::default() });
        Ok(())
    }
}
