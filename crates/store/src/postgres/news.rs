//! News of other servers: somebody has saved a definition or a setting.
//!
//! Owns a connection of its own that does nothing but listen. Nobody notifies on the path of a commit: the server's lock
//! for notifications would put one commit after another.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::{AsyncMessage, Client};

use crate::postgres::address::Address;
use crate::postgres::failure::Trouble;
use crate::postgres::link;
use crate::postgres::tls::{self, Messages};

/// Tells every server that listens. Goes with the statement that saves what is new.
pub(super) const TELL: &str = "SELECT pg_notify('statewright', '')";

#[derive(Default)]
pub(super) struct News {
    listener: Mutex<Option<Listener>>,
}

struct Listener {
    // In the order in which they have to go.
    _client: Client,
    messages: Messages,
    runtime: Option<Runtime>,
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News").finish_non_exhaustive()
    }
}

impl News {
    /// Waits until there may be news, or for `at_most`, and says which. It is a reason to look that nobody was listening
    /// until now.
    pub(super) fn wait(&self, address: &Address, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listening) = listener.as_mut() else {
            if let Ok(opened) = Listener::open(address) {
                *listener = Some(opened);
                return true;
            }
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            return false;
        };
        listening.wait(until).unwrap_or_else(|_| {
            *listener = None;
            false
        })
    }
}

/// Nobody is listening any more.
struct Deaf;

impl Listener {
    fn open(address: &Address) -> Result<Self, Trouble> {
        let runtime = link::runtime()?;
        let (client, messages) = runtime.block_on(async {
            let (client, mut messages) = tls::connect(address).await?;
            {
                let mut listening = pin!(client.batch_execute("LISTEN statewright"));
                poll_fn(|context| {
                    while let Poll::Ready(message) = messages(context) {
                        if !matches!(message, Some(Ok(_))) {
                            return Poll::Ready(Err(Trouble::NoLink("the connection has ended".to_owned())));
                        }
                    }
                    listening.as_mut().poll(context).map_err(Trouble::from)
                })
                .await?;
            }
            Ok::<_, Trouble>((client, messages))
        })?;
        Ok(Self { _client: client, messages, runtime: Some(runtime) })
    }

    /// Whether there was news.
    fn wait(&mut self, until: Instant) -> Result<bool, Deaf> {
        let runtime = self.runtime.as_ref().ok_or(Deaf)?;
        let left = until.saturating_duration_since(Instant::now());
        let messages = &mut self.messages;
        let waiting = async {
            let news = poll_fn(|context| {
                loop {
                    match messages(context) {
                        Poll::Ready(Some(Ok(AsyncMessage::Notification(_)))) => return Poll::Ready(Ok(true)),
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(Err(Deaf)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            });
            tokio::time::timeout(left, news).await.unwrap_or(Ok(false))
        };
        runtime.block_on(waiting)
    }
}

/// A runtime cannot be dropped within another.
impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
