//! Who is told of runs: by mail, webhooks, chats, and dead-man's switches.

mod channel;
mod event;
mod http;
mod mail;
mod template;

pub use channel::Channel;
pub use event::Event;
pub(super) use http::post;

/// An error with everything that it comes from, in a line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts.dedup();
    texts.join(": ")
}
