//! What time it is, for everything that is stored, or compared with what was.

use jiff::Timestamp;

/// The time.
#[cfg(not(debug_assertions))]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time. Builds for tests take another one from `PGTIDE_TEST_CLOCK` to begin with, so that a test can live through
/// many nights; released programs know nothing of it.
#[cfg(debug_assertions)]
pub fn now() -> Timestamp {
    use jiff::SignedDuration;
    use std::sync::OnceLock;

    static AHEAD: OnceLock<SignedDuration> = OnceLock::new();
    let ahead = AHEAD.get_or_init(|| {
        let begin = std::env::var("PGTIDE_TEST_CLOCK").ok();
        let begin = begin.and_then(|text| text.parse::<Timestamp>().ok());
        begin.map_or(SignedDuration::ZERO, |begin| {
            begin.duration_since(Timestamp::now())
        })
    });
    Timestamp::now() + *ahead
}
