//! Metrics as a replica shows them, and whether what is asked of them is there.

use std::collections::{BTreeMap, BTreeSet};

use super::promql::{References, Selector, values};
use crate::harness::{Replica, get};

/// Labels that Prometheus and Kubernetes give to everything that they scrape.
const TARGET: [&str; 3] = ["job", "instance", "namespace"];
/// What Prometheus itself has to say.
const OF_PROMETHEUS: [(&str, &[&str]); 2] = [("up", &[]), ("ALERTS", &["alertname", "alertstate"])];

/// The values of each label of each metric.
#[derive(Debug, Default)]
pub(super) struct Exposition(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Exposition {
    /// What a replica shows.
    pub(super) async fn of(replica: &Replica) -> Self {
        let (status, text) = get(replica.admin(), "/metrics").await.expect("metrics");
        assert_eq!(status, 200);
        let mut exposition = Self::parse(&text);
        for (metric, labels) in OF_PROMETHEUS {
            let labels = labels.iter().map(|it| ((*it).to_owned(), BTreeSet::new()));
            exposition.0.insert(metric.to_owned(), labels.collect());
        }
        exposition
    }

    fn parse(text: &str) -> Self {
        let mut exposition = Self::default();
        for line in text.lines().filter(|it| !it.starts_with('#')) {
            // An exemplar has labels of its own.
            let sample = line.split(" # ").next().expect("one part at least");
            let sample = sample.rsplit_once(' ').expect("a value").0;
            let [selector] = &References::of(sample).selectors[..] else { panic!("{line}") };
            let labels = exposition.0.entry(selector.metric.clone()).or_default();
            for it in &selector.matchers {
                labels.entry(it.name.clone()).or_default().insert(it.value.clone());
            }
        }
        exposition
    }

    /// Adds a metric that a rule makes.
    pub(super) fn add_recorded(&mut self, name: &str) {
        self.0.insert(name.to_owned(), BTreeMap::new());
    }

    /// What an expression refers to and nobody has.
    pub(super) fn missing(&self, expression: &str) -> Vec<String> {
        let references = References::of(expression);
        assert!(!references.selectors.is_empty(), "no metric in {expression}");
        let mut missing: Vec<_> =
            references.selectors.iter().flat_map(|it| self.missing_of(it)).collect();
        for label in references.labels.iter().filter(|it| !TARGET.contains(&it.as_str())) {
            let has =
                |it: &Selector| self.0.get(&it.metric).is_some_and(|it| it.contains_key(label));
            if !references.selectors.iter().any(has) {
                missing.push(format!("label {label} in {expression}"));
            }
        }
        missing
    }

    fn missing_of(&self, selector: &Selector) -> Vec<String> {
        let metric = &selector.metric;
        let Some(labels) = self.0.get(metric) else { return vec![metric.clone()] };
        let mut missing = Vec::new();
        for matcher in selector.matchers.iter().filter(|it| !TARGET.contains(&it.name.as_str())) {
            let label = &matcher.name;
            match labels.get(label) {
                None => missing.push(format!("{metric}: label {label}")),
                // Which buckets and versions there are is nobody's promise, and which alerts are
                // firing is Prometheus's.
                Some(_) if ["le", "version"].contains(&label.as_str()) || metric == "ALERTS" => {}
                Some(known) => {
                    let unknown = values(matcher).into_iter().filter(|it| !known.contains(*it));
                    missing.extend(unknown.map(|it| format!("{metric}{{{label}=\"{it}\"}}")));
                }
            }
        }
        missing
    }
}

#[test]
fn misses_what_is_not_there() {
    let exposition = Exposition::parse(
        "# TYPE a counter\na_total{reason=\"x\"} 3 # {trace_id=\"0a\"} 1 1.5\nb{le=\"1.0\"} 1\nc 1\n",
    );
    let missing = |expression: &str| exposition.missing(expression);
    assert!(
        missing(r#"sum by (job, reason) (a_total{reason="x", job="roomcast"}) + c"#).is_empty()
    );
    assert_eq!(missing("rate(a[5m])"), ["a"]);
    assert_eq!(missing(r#"a_total{reason=~"x|y"}"#), [r#"a_total{reason="y"}"#]);
    assert_eq!(missing(r#"c{reason="x"}"#), ["c: label reason"]);
    assert_eq!(missing("sum by (cause) (c)"), ["label cause in sum by (cause) (c)"]);
}
