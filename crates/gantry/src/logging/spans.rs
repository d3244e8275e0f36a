//! The fields of spans: a line has those of every span that it is written in, such as the job that
//! it is about.

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::{FmtContext, FormatFields};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Fields;

/// Keeps what spans say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpanFields;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanFields {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }
}

/// The fields of an event and of its spans. What is said closer to the event is said last, and
/// counts.
pub(super) fn fields_of<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> Fields
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut fields = Fields::default();
    for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
        if let Some(own) = span.extensions().get::<Fields>() {
            fields.add(own);
        }
    }
    event.record(&mut fields);
    fields
}
