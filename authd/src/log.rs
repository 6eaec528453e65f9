//! The log, as text or as JSON.

use tracing_subscriber::{
    EnvFilter, fmt, layer::SubscriberExt, registry, reload, util::SubscriberInitExt,
};

use crate::config::{Log, LogFormat};

/// Changes the filter of the log while the service runs.
pub(crate) struct Filter(Box<dyn Fn(EnvFilter) -> bool + Send>);

impl Filter {
    /// Returns whether the filter could be set.
    pub(crate) fn set(&self, log: &Log) -> bool {
        EnvFilter::try_new(&log.filter).is_ok_and(|filter| (self.0)(filter))
    }
}

/// Begins to log to the standard error. `None` if the filter cannot be read.
pub(crate) fn start(log: &Log) -> Option<Filter> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&log.filter).ok()?);
    let layers = registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    match log.format {
        LogFormat::Text => layers.with(layer.with_target(false)).init(),
        LogFormat::Json => layers.with(layer.json()).init(),
    }
    Some(Filter(Box::new(move |filter| handle.reload(filter).is_ok())))
}
