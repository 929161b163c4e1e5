//! Who is told of runs: by mail, webhooks, chats, and dead-man's switches.

mod channel;
mod event;
mod http;
mod mail;
mod template;

pub use channel::Channel;
pub use event::Event;
pub(super) use http::post;
