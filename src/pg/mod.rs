//! PostgreSQL: connection settings, TLS, sessions, COPY on the wire.
//!
//! One protocol stack serves everything. A [`Connection`] is blocking and thin: simple queries with text results for
//! control, and a COPY path that costs a few nanoseconds a row, on the same session, because a worker needs its DDL, its
//! locks and its COPY in one transaction. [`Settings`] are libpq's; see `docs/connection.md`.

pub mod archive;
mod batch;
mod cancel;
pub mod catalog;
mod certificate;
mod connect;
mod connection;
mod copy_in;
mod copy_out;
mod error;
pub mod families;
pub mod interrupt;
pub mod pg_dump;
pub mod printed;
pub mod programs;
mod row;
pub mod sequences;
mod settings;
pub mod snapshot;
mod startup;
pub mod statistics;
mod stream;
mod tls;
mod together;
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
pub use together::Together;

/// The database that every cluster has, to connect to where none is named.
pub const FIRST_DATABASE: &str = "postgres";

/// What the name of a database begins with that was made to be dropped again, as a verification makes one.
pub const SCRATCH_PREFIX: &str = "pgtide_verify_";

/// Whether a database was made to be dropped again: its name ends in 8 digits of a snapshot, and 8 more.
pub fn is_scratch(name: &str) -> bool {
    let digits = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_prefix(SCRATCH_PREFIX)
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(a, b)| digits(a) && digits(b))
}

/// How the engines open their sessions: everything pinned, and text in UTF-8 whatever the database's encoding, because
/// names and statements are. Rows travel in the database's own encoding, which is set around each COPY.
pub fn session_options() -> SessionOptions {
    SessionOptions {
        client_encoding: ClientEncoding::Utf8,
        ..SessionOptions::pinned()
    }
}
