//! [`Trace`]: the spans and events of a test, for the cases about what an operator gets to see.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    /// Where the events of this thread go.
    static RECORD: RefCell<Option<Events>> = const { RefCell::new(None) };
}

type Events = Arc<Mutex<Vec<Event>>>;

/// Records what happens on this thread while it is alive: for tests that run on one.
///
/// There is one subscriber for the process. With one for each test, `tracing` would ask whichever is there first, and
/// remember that nobody wants an event.
#[must_use = "recording ends when this is dropped"]
#[derive(Debug)]
pub struct Trace {
    events: Events,
}

/// An event, as text.
#[derive(Clone, Debug)]
pub struct Event {
    /// How bad it is.
    pub level: Level,
    /// Where it is from.
    pub target: String,
    /// Its message and its fields, as `name=value`.
    pub text: String,
    /// The spans it is in, from the innermost: their names and their fields.
    pub spans: Vec<String>,
}

impl Trace {
    /// Begins to record.
    pub fn record() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::registry().with(Recorder);
            tracing::subscriber::set_global_default(subscriber).expect("it is the only one");
            // what was asked for before it was there
            tracing::callsite::rebuild_interest_cache();
        });
        let events = Events::default();
        RECORD.set(Some(Arc::clone(&events)));
        Self { events }
    }

    /// Forgets the events so far.
    pub fn clear(&self) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The events so far whose message and fields contain `text`.
    #[must_use]
    pub fn events(&self, text: &str) -> Vec<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().filter(|event| event.text.contains(text)).cloned().collect()
    }

    /// The one event so far whose message and fields contain `text`.
    #[must_use]
    pub fn event(&self, text: &str) -> Event {
        let events = self.events(text);
        assert_eq!(events.len(), 1, "one event with \"{text}\": {events:#?}");
        events[0].clone()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        RECORD.set(None);
    }
}

struct Recorder;

/// The fields of a span or an event.
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).expect("a string takes all");
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let span = context.span(id).expect("the span is new");
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("the span is open");
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let Some(events) = RECORD.with_borrow(Clone::clone) else { return };
        let mut text = Fields::default();
        event.record(&mut text);
        let spans = context.event_scope(event).into_iter().flatten().map(|span| {
            let fields =
                span.extensions().get::<Fields>().map_or_else(String::new, |fields| fields.0.clone());
            format!("{} {fields}", span.name())
        });
        let event = Event {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            text: text.0,
            spans: spans.collect(),
        };
        events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}
