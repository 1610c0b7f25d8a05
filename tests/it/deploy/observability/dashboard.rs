//! The dashboard, as Grafana gets it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    super::{at, list, number, read, text},
    check_syntax,
    exposition::Exposition,
};

const FILE: &str = "deploy/grafana/dashboards/roomcast.json";

/// The dashboard.
fn dashboard() -> Value {
    serde_json::from_str(&read(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"))
}

/// Its panels without the headings of rows.
fn panels() -> Vec<Value> {
    let panels = list(&dashboard(), "/panels").to_vec();
    panels.into_iter().filter(|it| text(it, "/type") != "row").collect()
}

/// A query with the title of what asks it.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) title: String,
    pub(super) expression: String,
    /// Asked for one moment, not for all of the chosen period.
    pub(super) instant: bool,
}

/// All queries of panels and annotations, with Grafana's variables replaced as it would.
pub(super) fn queries(rate_interval: &str) -> Vec<Query> {
    let variables = [
        ("$__rate_interval", rate_interval),
        ("$__range", "1h"),
        ("$job", "roomcast"),
        ("$instance", ".*"),
    ];
    let query = |title: &Value, target: &Value| {
        let mut expression = text(target, "/expr").to_owned();
        for (variable, value) in variables {
            expression = expression.replace(variable, value);
        }
        assert!(!expression.contains('$'), "an unknown variable in {expression}");
        let instant = target.get("instant").is_some_and(|it| it == true);
        Query { title: text(title, "").to_owned(), expression, instant }
    };
    let dashboard = dashboard();
    let annotations = list(&dashboard, "/annotations/list").iter();
    let mut queries: Vec<_> = annotations.map(|it| query(at(it, "/name"), it)).collect();
    for panel in panels() {
        queries.extend(list(&panel, "/targets").iter().map(|it| query(at(&panel, "/title"), it)));
    }
    queries
}

/// What the dashboard asks of the metrics and is not there.
pub(super) fn missing(exposition: &Exposition) -> Vec<String> {
    let queries = queries("1m");
    let mut missing: Vec<_> =
        queries.iter().flat_map(|it| exposition.missing(&it.expression)).collect();
    for variable in list(&dashboard(), "/templating/list") {
        let Some(query) = variable.pointer("/query/query").and_then(Value::as_str) else {
            continue;
        };
        let arguments = query.strip_prefix("label_values(").and_then(|it| it.strip_suffix(')'));
        let metric = arguments.expect("label_values").rsplit_once(", ").expect("two arguments").0;
        missing.extend(exposition.missing(&metric.replace("$job", "roomcast")));
    }
    missing
}

#[test]
fn promtool_accepts_every_expression() {
    let queries = queries("1m").into_iter().map(|it| it.expression);
    check_syntax(&queries.collect::<Vec<_>>());
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard = dashboard();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard, "/panels") {
        let title = text(panel, "/title");
        assert!(ids.insert(number(panel, "/id")), "{title} has another one's id");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|it| number(panel, &format!("/gridPos/{it}")));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is out of the grid");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} is upon another panel at {cell:?}");
        }
    }
}

/// Whoever looks at a number knows what it means, and in what it is measured.
#[test]
fn panels_explain_themselves() {
    for panel in panels() {
        let title = text(&panel, "/title");
        assert!(!title.is_empty() && text(&panel, "/description").len() > 10, "{title}");
        assert!(!text(&panel, "/fieldConfig/defaults/unit").is_empty(), "{title}");
        let targets = list(&panel, "/targets");
        let names: BTreeSet<_> = targets.iter().map(|it| text(it, "/refId")).collect();
        assert_eq!(names.len(), targets.len(), "{title}");
        let legends: BTreeSet<_> = targets.iter().map(|it| text(it, "/legendFormat")).collect();
        assert_eq!(legends.len(), targets.len(), "{title}");
    }
}

/// Everything comes from the one source that can be chosen.
#[test]
fn data_comes_from_the_chosen_source() {
    let dashboard = dashboard();
    let chosen = at(&dashboard, "/templating/list/0");
    assert_eq!((text(chosen, "/name"), text(chosen, "/type")), ("datasource", "datasource"));
    assert_eq!(text(chosen, "/query"), "prometheus");
    let asked = list(&dashboard, "/annotations/list").iter().cloned().chain(panels());
    for it in asked.chain(list(&dashboard, "/templating/list")[1..].iter().cloned()) {
        assert_eq!(text(&it, "/datasource/type"), "prometheus", "{it:#}");
        assert_eq!(text(&it, "/datasource/uid"), "${datasource}", "{it:#}");
    }
}

/// From a slow delivery on the dashboard it is one click to its trace.
#[test]
fn delays_have_exemplars() {
    let panels = panels();
    let lines = panels.iter().filter(|it| text(it, "/type") == "timeseries");
    let targets = lines.flat_map(|it| list(it, "/targets"));
    let delays: Vec<_> =
        targets.filter(|it| text(it, "/expr").contains("delivery_delay_seconds")).collect();
    assert!(delays.len() >= 3 && delays.iter().all(|it| it["exemplar"] == true), "{delays:#?}");
}
