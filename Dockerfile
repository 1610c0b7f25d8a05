# A small image with one binary, built without BuildKit's extensions so that any builder will do.
# Both base images are arguments: a registry mirror or a distribution's own image can stand in, as
# long as the second one has glibc, not older than the first one's, and the roots of certificates.
ARG BUILDER=rust:1.95-slim-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS build
WORKDIR /src
# A container's backtraces need names, not lines: this is most of the binary's size.
ENV CARGO_PROFILE_RELEASE_DEBUG=0 \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo

# The dependencies are a layer of their own, which does not change with `src`: they are built for a package of
# the same name that is empty.
COPY Cargo.toml Cargo.lock ./
COPY proto proto
COPY crates crates
RUN mkdir -p src tests/it \
    && echo 'fn main() {}' | tee build.rs src/main.rs tests/it/main.rs > src/lib.rs \
    && cargo build --release --locked --bin roomcast \
    && cargo clean --release --package roomcast \
    && rm -r build.rs src tests

COPY build.rs ./
COPY src src
# The manifest names the integration tests, which are not part of the build's context.
RUN mkdir -p tests/it && touch tests/it/main.rs \
    && cargo build --release --locked --bin roomcast

# glibc, libgcc and the roots of certificates, which rediss:// and https:// need; no shell.
FROM ${RUNTIME}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="roomcast" \
      org.opencontainers.image.description="A chat service over gRPC streams, of many replicas" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/target/release/roomcast /usr/local/bin/roomcast
# By number, so that Kubernetes can see that it is not root; any other number works as well.
USER 10001:10001
# Variables rather than flags: flags would win over everything that the operator configures.
ENV ROOMCAST_SERVER__ADDR=0.0.0.0:50051 \
    ROOMCAST_ADMIN__ADDR=0.0.0.0:9464
EXPOSE 50051 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["roomcast", "health"]
ENTRYPOINT ["roomcast"]
CMD ["serve"]
