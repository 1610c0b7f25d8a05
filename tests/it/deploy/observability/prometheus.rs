//! A real Prometheus that scrapes replicas of a test.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::form_urlencoded::Serializer;

use super::super::{list, path, text, tool};
use crate::harness::{Cluster, SOON, eventually, free_port};

/// A running Prometheus with the rules of `deploy/`. Killed when dropped.
pub(super) struct Prometheus {
    child: Child,
    addr: SocketAddr,
    dir: TempDir,
}

impl Prometheus {
    /// Starts it and waits until it has scraped every replica.
    pub(super) async fn over(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let targets: Vec<_> = cluster.replicas.iter().map(|it| it.admin().to_string()).collect();
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": [path("deploy/prometheus/rules.yaml")],
            "scrape_configs":
                [{ "job_name": "roomcast", "static_configs": [{ "targets": targets }] }],
        });
        let file = dir.path().join("prometheus.yaml");
        fs::write(&file, config.to_string()).expect("write the configuration");
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = fs::File::create(dir.path().join("log")).expect("a file for its log");
        let child = tool("PROMETHEUS_BIN", "prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--enable-feature=exemplar-storage")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start Prometheus");
        let prometheus = Self { child, addr, dir };
        let up = format!("sum(up{{job=\"roomcast\"}}) == {}", targets.len());
        eventually(Duration::from_secs(30), "Prometheus has scraped them", async || {
            let answer = prometheus.try_get("/api/v1/query", &[("query", &up)]).await?;
            (!list(&answer, "/data/result").is_empty()).then_some(())
        })
        .await;
        prometheus
    }

    /// What comes of a query now.
    pub(super) async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.get("/api/v1/query", &[("query", expression)]).await;
        list(&answer, "/data/result").to_vec()
    }

    /// What comes of a query for the time between two moments, in seconds.
    pub(super) async fn query_range(&self, expression: &str, from: f64, to: f64) -> Vec<Value> {
        let (start, end) = (from.to_string(), to.to_string());
        let parameters = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        let answer = self.get("/api/v1/query_range", &parameters).await;
        list(&answer, "/data/result").to_vec()
    }

    /// The traces that exemplars of a query's series name, of the time between two moments.
    pub(super) async fn exemplars(&self, expression: &str, from: f64, to: f64) -> Vec<String> {
        let (start, end) = (from.to_string(), to.to_string());
        let parameters = [("query", expression), ("start", &start), ("end", &end)];
        let answer = self.get("/api/v1/query_exemplars", &parameters).await;
        let series = list(&answer, "/data").iter();
        let exemplars = series.flat_map(|it| list(it, "/exemplars"));
        exemplars.map(|it| text(it, "/labels/trace_id").to_owned()).collect()
    }

    /// The number that a query comes to; `None` if it comes to nothing.
    pub(super) async fn number(&self, expression: &str) -> Option<f64> {
        let found = self.query(expression).await;
        let [one] = &found[..] else { return None };
        Some(text(one, "/value/1").parse().expect("a number"))
    }

    /// An answer of its API, which has to be a success.
    pub(super) async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let answer = self.try_get(path, parameters).await.expect("an answer");
        assert_eq!(text(&answer, "/status"), "success", "{parameters:?}: {answer:#}");
        answer
    }

    /// An answer, also an error, of its API.
    async fn try_get(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
        // In HTTP/1.0 a body comes in one piece.
        let request = format!("GET {path}?{query} HTTP/1.0\r\n\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(self.addr).await.ok()?;
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let (_, body) = answer.split_once("\r\n\r\n")?;
            serde_json::from_str(body).ok()
        };
        timeout(SOON, exchange).await.ok()?
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- Prometheus's log\n{log}\n---");
        }
    }
}
