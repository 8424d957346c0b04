//! One connection, with a runtime of its own: whoever asks drives it, on the thread that asks.
//!
//! Owns how statements are sent. Several that do not wait for each other's answers go together, in one round trip.
//! What is asked, and what an answer means, is not known here.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::Secrets;
use crate::postgres::address::Address;
use crate::postgres::failure::Trouble;
use crate::postgres::tls;

/// Values of a statement, in the order of its `$1`, `$2`, …
pub(super) type Values<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// A statement with its values.
pub(super) struct Step<'a> {
    pub sql: &'a str,
    pub values: Values<'a>,
}

impl<'a> Step<'a> {
    pub(super) fn new(sql: &'a str, values: Values<'a>) -> Self {
        Self { sql, values }
    }

    pub(super) fn plain(sql: &'a str) -> Self {
        Self { sql, values: Vec::new() }
    }
}

/// As whom a connection works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hat {
    /// Whoever logged in, who owns the tables.
    Owner,
    /// May change everything.
    Writer,
    /// May read what belongs to one tenant.
    Reader,
}

impl Hat {
    fn put_on(self) -> &'static str {
        match self {
            Self::Owner => "RESET ROLE",
            Self::Writer => "SET ROLE statewright_writer",
            Self::Reader => "SET ROLE statewright_reader",
        }
    }
}

/// More than any server here asks; beyond it, the lists of somebody who tries every filter are prepared again.
const STATEMENTS_MAX: usize = 256;

/// The server gives a statement up by itself; only when it does not even do that, the connection is given up.
const GRACE: Duration = Duration::from_secs(5);

const SETTINGS: &str = "
    SET search_path = statewright, pg_temp;
    SET default_transaction_isolation = 'read committed';
    SET row_security = on;
    SET TimeZone = 'UTC';
    SET jit = off;
    SET enable_seqscan = off;
    SET idle_in_transaction_session_timeout = '60s';
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

pub(super) struct Link {
    client: Option<Client>,
    connection: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
    statements: Mutex<HashMap<String, Statement>>,
    hat: Hat,
    patience: Duration,
    is_given_up: AtomicBool,
    secrets: Secrets,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("hat", &self.hat).finish_non_exhaustive()
    }
}

/// A runtime for one connection.
pub(super) fn runtime() -> Result<Runtime, Trouble> {
    // So that whoever takes an idle connection sees at once whether it has ended.
    let mut builder = Builder::new_current_thread();
    builder.enable_all().event_interval(1).build().map_err(|error| Trouble::NoLink(error.to_string()))
}

impl Link {
    /// A connection of whoever logged in, with the settings that everything here relies on.
    pub(super) fn open(address: &Address) -> Result<Self, Trouble> {
        let runtime = runtime()?;
        let connecting = async {
            let (client, mut messages) = tls::connect(address).await?;
            // How it ended is told to whoever was waiting for an answer.
            let driving = async move { while let Some(Ok(_)) = poll_fn(&mut messages).await {} };
            Ok::<_, Trouble>((client, tokio::spawn(driving)))
        };
        let (client, connection) = runtime.block_on(connecting)?;
        let timeout = address.options.statement_timeout;
        let link = Self {
            client: Some(client),
            connection: Some(connection),
            runtime: Some(runtime),
            statements: Mutex::default(),
            hat: Hat::Owner,
            patience: timeout + GRACE,
            is_given_up: AtomicBool::new(false),
            secrets: address.options.records.secrets.clone(),
        };
        let settings = format!("SET statement_timeout = {};{SETTINGS}", timeout.as_millis());
        link.batch(&settings).map_err(no_link)?;
        Ok(link)
    }

    /// What the records that are read here are opened with.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    pub(super) fn hat(&self) -> Hat {
        self.hat
    }

    pub(super) fn put_on(&mut self, hat: Hat) -> Result<(), Trouble> {
        if self.hat != hat {
            self.batch(hat.put_on()).map_err(no_link)?;
            self.hat = hat;
        }
        Ok(())
    }

    /// Whether it is of no use any more. Looks at what has come in since it was last used.
    pub(super) fn is_closed(&self) -> bool {
        let (Some(client), Some(runtime)) = (&self.client, &self.runtime) else { return true };
        runtime.block_on(async {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        });
        client.is_closed() || self.is_given_up.load(Ordering::Relaxed)
    }

    /// Runs statements without values, one after another.
    pub(super) fn batch(&self, sql: &str) -> Result<(), Trouble> {
        self.run(async |client| Ok(client.batch_execute(sql).await?))
    }

    pub(super) fn query(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Trouble> {
        let step = Step::new(sql, values.to_vec());
        let mut answers = self.ask(std::slice::from_ref(&step))?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Sends all of them before it waits for an answer. The first failure is what it gives, and means that those behind
    /// it may have been done or not, unless they are in one transaction.
    pub(super) fn ask(&self, steps: &[Step<'_>]) -> Result<Vec<Vec<Row>>, Trouble> {
        self.run(async |client| {
            let mut asked: Vec<Pin<Box<dyn Future<Output = _> + '_>>> = Vec::with_capacity(steps.len());
            for step in steps {
                // Nothing has been sent yet when this fails.
                let statement = self.prepared(client, step.sql).await.map_err(not_sent)?;
                asked.push(Box::pin(async move { client.query(&statement, &step.values).await }));
            }
            let answers = in_order(asked).await;
            answers.into_iter().map(|answer| answer.map_err(Trouble::from)).collect()
        })
    }

    async fn prepared(&self, client: &Client, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.statements().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = client.prepare(sql).await?;
        let mut statements = self.statements();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let (Some(client), Some(runtime)) = (&self.client, &self.runtime) else {
            return Err(Trouble::NoLink("the connection has ended".to_owned()));
        };
        let patience = self.patience;
        runtime.block_on(async {
            match tokio::time::timeout(patience, work(client)).await {
                Ok(answer) => answer,
                Err(_) => {
                    // Whatever it was may still be under way, and nobody is to wait behind it.
                    self.is_given_up.store(true, Ordering::Relaxed);
                    Err(Trouble::Lost(format!("no answer within {} s", patience.as_secs())))
                }
            }
        })
    }
}

/// Says goodbye, if there is time for it: a runtime cannot be driven from within another.
impl Drop for Link {
    fn drop(&mut self) {
        self.client = None;
        let (Some(runtime), connection) = (self.runtime.take(), self.connection.take()) else { return };
        if Handle::try_current().is_err()
            && let Some(connection) = connection
        {
            let goodbye = async { tokio::time::timeout(Duration::from_millis(200), connection).await };
            let _ = runtime.block_on(goodbye);
        }
        runtime.shutdown_background();
    }
}

/// Of what was done before anything that changes something.
fn no_link(trouble: Trouble) -> Trouble {
    Trouble::NoLink(trouble.to_string())
}

fn not_sent(error: tokio_postgres::Error) -> Trouble {
    match Trouble::from(error) {
        Trouble::Lost(detail) => Trouble::NoLink(detail),
        other => other,
    }
}

/// Polls all, the first first, until each has its answer: so they are sent in their order.
async fn in_order<T>(mut asked: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut answers: Vec<Option<T>> = asked.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_waiting = false;
        for (future, answer) in asked.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *answer = Some(value),
                    Poll::Pending => is_waiting = true,
                }
            }
        }
        if is_waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    answers.into_iter().flatten().collect()
}
