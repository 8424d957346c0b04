//! How a connection is made and protected.

use std::future::Future;
use std::task::{Context, Poll};

use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};

use crate::postgres::address::{Address, Trust};
use crate::postgres::failure::{Trouble, described};

/// What a server says without being asked. Whoever polls it drives the connection; it ends with the connection.
pub(super) type Messages =
    Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> + Send>;

pub(super) async fn connect(address: &Address) -> Result<(Client, Messages), Trouble> {
    if address.config.get_ssl_mode() == SslMode::Require || address.trust == Trust::Verified {
        return Err(Trouble::NoLink(
            "this program has no encrypted connections to PostgreSQL yet".to_owned(),
        ));
    }
    connect_with(address, NoTls).await
}

fn connect_with<T>(address: &Address, tls: T) -> impl Future<Output = Result<(Client, Messages), Trouble>>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let connecting = address.config.connect(tls);
    async {
        let (client, mut connection) =
            connecting.await.map_err(|error| Trouble::NoLink(described(&error)))?;
        let messages: Messages = Box::new(move |context| connection.poll_message(context));
        Ok((client, messages))
    }
}
