//! A page of metrics in the text format of Prometheus (OpenMetrics 1.0): values that were counted elsewhere, each with
//! its help text.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::histogram::Histogram;

/// The content type of an HTTP answer with such a page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values that distinguish the samples of one metric.
pub type Labels = Vec<(&'static str, String)>;

/// Metrics in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Page(Vec<Family>);

#[derive(Clone, Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

#[derive(Clone, Debug)]
enum Samples {
    Counters(Vec<(Labels, u64)>),
    Gauges(Vec<(Labels, f64)>),
    Histograms(Vec<(Labels, Histogram)>, f64),
}

impl Page {
    /// Adds a counter, which only grows. Its name gets the ending `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        self.0.push(Family { name, help, samples: Samples::Counters(escaped(samples)) });
    }

    /// Adds a counter without labels.
    pub fn count(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.counter(name, help, [(Labels::new(), value)]);
    }

    /// Adds a gauge, which goes up and down.
    pub fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.0.push(Family { name, help, samples: Samples::Gauges(escaped(samples)) });
    }

    /// Adds a gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.gauges(name, help, [(Labels::new(), value)]);
    }

    /// Adds histograms. `unit`: one unit of the histogram in units of the metric, such as a microsecond in seconds.
    pub fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        unit: f64,
        samples: impl IntoIterator<Item = (Labels, Histogram)>,
    ) {
        self.0.push(Family { name, help, samples: Samples::Histograms(escaped(samples), unit) });
    }

    /// The page as text.
    #[must_use]
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, samples } in &self.0 {
            let kind = match samples {
                Samples::Counters(_) => MetricType::Counter,
                Samples::Gauges(_) => MetricType::Gauge,
                Samples::Histograms(..) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            match samples {
                Samples::Counters(samples) => {
                    for (labels, value) in samples {
                        labelled(&mut metric, labels, |encoder| {
                            encoder.encode_counter::<NoLabelSet, u64, f64>(value, None)
                        })?;
                    }
                }
                Samples::Gauges(samples) => {
                    for (labels, value) in samples {
                        labelled(&mut metric, labels, |encoder| encoder.encode_gauge(value))?;
                    }
                }
                Samples::Histograms(samples, unit) => {
                    for (labels, histogram) in samples {
                        labelled(&mut metric, labels, |encoder| encode_histogram(histogram, *unit, encoder))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The crate writes values of labels as they are; the format wants three characters escaped.
fn escaped<T>(samples: impl IntoIterator<Item = (Labels, T)>) -> Vec<(Labels, T)> {
    let escape = |value: String| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let each = |(labels, value): (Labels, T)| {
        (labels.into_iter().map(|(name, label)| (name, escape(label))).collect(), value)
    };
    samples.into_iter().map(each).collect()
}

/// Encodes one sample. Without labels there are no braces.
fn labelled(
    metric: &mut MetricEncoder<'_>,
    labels: &Labels,
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() { encode(metric) } else { encode(&mut metric.encode_family(labels)?) }
}

fn encode_histogram(histogram: &Histogram, unit: f64, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
    // Divided and not multiplied where it can be: 63 microseconds are to be 0.000063 and nothing near it.
    let scaled =
        |value: u64| if unit < 1.0 { value as f64 / (1.0 / unit).round() } else { value as f64 * unit };
    let buckets = histogram.buckets().map(|(end, count)| (end.map_or(f64::MAX, scaled), count));
    let buckets: Vec<(f64, u64)> = buckets.collect();
    encoder.encode_histogram::<NoLabelSet>(scaled(histogram.sum()), histogram.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_the_format_of_prometheus() {
        let mut page = Page::default();
        let label = |kind: &str| vec![("kind", kind.to_owned())];
        page.counter("requests", "Requests answered", [(label("get"), 3), (label("a\"b\\c\nd"), 1)]);
        page.gauge("age_seconds", "Age", 0.25);
        let mut took = Histogram::new(&[10, 63]);
        [5, 50, 500].into_iter().for_each(|value| took.record(value));
        page.histograms("took_seconds", "Time taken", 1e-6, [(label("get"), took)]);
        let expected = "\
# HELP requests Requests answered
# TYPE requests counter
requests_total{kind=\"get\"} 3
requests_total{kind=\"a\\\"b\\\\c\\nd\"} 1
# HELP age_seconds Age
# TYPE age_seconds gauge
age_seconds 0.25
# HELP took_seconds Time taken
# TYPE took_seconds histogram
took_seconds_sum{kind=\"get\"} 0.000555
took_seconds_count{kind=\"get\"} 3
took_seconds_bucket{le=\"0.00001\",kind=\"get\"} 1
took_seconds_bucket{le=\"0.000063\",kind=\"get\"} 2
took_seconds_bucket{le=\"+Inf\",kind=\"get\"} 3
# EOF
";
        assert_eq!(page.text(), expected);
    }
}
