# The collector's image holds nothing but the collector, so nothing there can ask for its health.
FROM ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector:0.159.0 AS collector

FROM busybox:1.37
COPY --from=collector /otelcol /otelcol
USER 10001:10001
ENTRYPOINT ["/otelcol"]
