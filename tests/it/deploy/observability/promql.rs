//! What a `PromQL` expression refers to.

use promql_parser::{
    label::Matcher,
    parser::{self, Expr, LabelModifier, VectorSelector},
    util::{ExprVisitor, walk_expr},
};

/// A metric with its matchers, as in `up{job="roomcast"}`.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) metric: String,
    pub(super) matchers: Vec<Matcher>,
}

/// What an expression refers to.
#[derive(Debug, Default)]
pub(super) struct References {
    pub(super) selectors: Vec<Selector>,
    /// The labels by which it groups and joins.
    pub(super) labels: Vec<String>,
}

impl References {
    /// Of an expression without variables.
    pub(super) fn of(expression: &str) -> Self {
        let parsed = parser::parse(expression)
            .unwrap_or_else(|error| panic!("{expression} is no PromQL: {error}"));
        let mut references = Self::default();
        walk_expr(&mut references, &parsed).expect("a walk cannot fail");
        references
    }

    fn add(&mut self, selector: &VectorSelector) {
        let metric = selector.name.clone().expect("a metric is named");
        self.selectors.push(Selector { metric, matchers: selector.matchers.matchers.clone() });
    }
}

impl ExprVisitor for References {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        match expression {
            Expr::VectorSelector(selector) => self.add(selector),
            Expr::MatrixSelector(matrix) => self.add(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                let labels = aggregate.modifier.as_ref().map(LabelModifier::labels);
                self.labels.extend(labels.into_iter().flat_map(|it| it.labels.clone()));
            }
            Expr::Binary(binary) => {
                let modifier = binary.modifier.as_ref();
                let matching =
                    modifier.and_then(|it| it.matching.as_ref()).map(LabelModifier::labels);
                let joined = modifier.and_then(|it| it.card.labels());
                let labels = matching.into_iter().chain(joined);
                self.labels.extend(labels.flat_map(|it| it.labels.clone()));
            }
            _ => {}
        }
        Ok(true)
    }
}

/// The values that a matcher names; none when it is a pattern that names no value.
pub(super) fn values(matcher: &Matcher) -> Vec<&str> {
    let regex = matcher.op.to_string().ends_with('~');
    matcher.value.split(if regex { "|" } else { "\0" }).filter(|it| !it.contains(".+")).collect()
}

#[test]
fn finds_what_an_expression_refers_to() {
    let references = References::of(
        r#"
        histogram_quantile(0.99, sum by (job, le) (rate(a_bucket{job="x", r=~"b|c"}[5m])))
        > clamp_min(1e-3 * sum(b:c:d) by (job), 10) unless on (instance) e offset 5m == 1"#,
    );
    let selectors: Vec<_> = references.selectors.iter().map(|it| it.metric.as_str()).collect();
    assert_eq!(selectors, ["a_bucket", "b:c:d", "e"]);
    let matchers = &references.selectors[0].matchers;
    assert_eq!(matchers.iter().map(values).collect::<Vec<_>>(), [vec!["x"], vec!["b", "c"]]);
    let mut labels = references.labels;
    labels.sort();
    assert_eq!(labels, ["instance", "job", "job", "le"]);
    assert_eq!(values(&References::of(r#"a{r=~".+"}"#).selectors[0].matchers[0]), [""; 0]);
}
