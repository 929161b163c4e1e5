//! PostgreSQL: connection settings, TLS, sessions, COPY on the wire.
//!
//! One protocol stack serves everything. A [`Connection`] is blocking and thin: simple queries with text results for
//! control, and a COPY path that costs a few nanoseconds a row, on the same session, because a worker needs its DDL, its
//! locks and its COPY in one transaction. [`Settings`] are libpq's; see `docs/connection.md`.

mod batch;
mod cancel;
mod certificate;
mod connect;
mod connection;
mod copy_in;
mod copy_out;
mod error;
mod row;
mod settings;
mod startup;
mod stream;
mod tls;
mod verify;
mod wire;

pub use cancel::CancelToken;
pub use connect::{ClientEncoding, SessionOptions};
pub use connection::{Connection, Reply, TransactionStatus};
pub use copy_in::CopyIn;
pub use copy_out::RowSink;
pub use error::{BatchError, CopyError, Error, Notice, ServerError};
pub use row::Row;
pub use settings::{ConnectionArgs, Settings, SettingsError};
