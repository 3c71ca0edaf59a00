//! [`Warnings`]: which refused origins the log was warned of. A browser does not show why a handshake was refused, so the
//! developer looks into the log of the server.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rejection::Rejection;

/// For so long there is no other warning of the same origin.
const PERIOD: Duration = Duration::from_secs(60);

/// How many origins are warned of in a period. A client can make up any number of them.
const MAX_ORIGINS: usize = 16;

/// What the log was warned of within the last period.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<Vec<(Instant, String)>>);

impl Warnings {
    /// Emits a warning for a refused origin, unless there was one of it within the period, or too many of others.
    pub(super) fn warn(&self, rejection: &Rejection) {
        let subject = match rejection {
            Rejection::OriginNotAllowed { origin, .. } => origin.as_str(),
            Rejection::MalformedOrigin { problem } => problem,
            _ => return,
        };
        if self.is_due(subject, Instant::now()) {
            // the filter of axum's examples, `my_app=debug,tower_http=debug`, shows no target that begins with another name
            tracing::warn!(
                target: "tower_http::websocket",
                reason = %rejection,
                "WebSocket refused: if the page is yours, set `WebSocketLayer::origin`, \
                 to `OriginPolicy::allow([..])`, or to `OriginPolicy::localhost()` in development",
            );
        }
    }

    fn is_due(&self, subject: &str, now: Instant) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(at, _)| now.saturating_duration_since(*at) < PERIOD);
        let is_due = recent.len() < MAX_ORIGINS && recent.iter().all(|(_, known)| known != subject);
        if is_due {
            recent.push((now, subject.to_owned()));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::EnvFilter;

    use super::*;

    fn refused(origin: &str) -> Rejection {
        Rejection::OriginNotAllowed {
            origin: origin.to_owned(),
            expected: "a page of example.com".to_owned(),
        }
    }

    #[test]
    fn an_origin_is_warned_of_once_in_a_minute() {
        let (warnings, start) = (Warnings::default(), Instant::now());
        let is_due = |subject, seconds| warnings.is_due(subject, start + Duration::from_secs(seconds));
        assert!(is_due("http://a.com", 0));
        assert!(!is_due("http://a.com", 59));
        assert!(is_due("http://b.com", 59));
        assert!(is_due("http://a.com", 60));
        assert!(!is_due("http://b.com", 118));
        assert!(is_due("http://b.com", 119));
    }

    #[test]
    fn a_flood_of_origins_is_warned_of_16_times_in_a_minute_and_takes_no_more_memory() {
        let (warnings, start) = (Warnings::default(), Instant::now());
        for minute in 0..3 {
            let now = start + minute * PERIOD;
            let due = (0..10_000).filter(|number| warnings.is_due(&number.to_string(), now)).count();
            assert_eq!((due, warnings.0.lock().unwrap().len()), (16, 16));
        }
    }

    /// What is logged with this filter.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: EnvFilter, rejection: &Rejection) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || Warnings::default().warn(rejection));
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_filters_that_servers_have_show_the_warning() {
        for filter in [
            "my_app=debug,tower_http=debug",
            "my_app=debug,tower_http=debug,axum::rejection=trace",
            "info",
            "warn",
        ] {
            let log = logged(EnvFilter::new(filter), &refused("http://localhost:5173"));
            assert!(log.contains("WARN tower_http::websocket"), "{filter}: {log}");
            assert!(
                log.contains("http://localhost:5173") && log.contains("OriginPolicy::localhost()"),
                "{log}"
            );
        }
        for filter in ["", "error", "my_app=debug"] {
            assert_eq!(logged(EnvFilter::new(filter), &refused("http://localhost:5173")), "");
        }
    }

    #[test]
    fn only_what_is_wrong_with_an_origin_is_warned_of() {
        let is_logged = |rejection| !logged(EnvFilter::new("warn"), &rejection).is_empty();
        assert!(is_logged(Rejection::MalformedOrigin { problem: "it has a path" }));
        assert!(!is_logged(Rejection::MissingOrigin));
        assert!(!is_logged(Rejection::MultipleOrigins));
        assert!(!is_logged(Rejection::MissingKey));
    }
}
