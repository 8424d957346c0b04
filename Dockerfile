# syntax=docker/dockerfile:1
# One binary in a small image, for a user without rights. docs/operations.md says how to run it.

FROM rust:1-slim-bookworm AS build
# For the SQLite, zstd and cryptography that are built in.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The target folder is a cache and no part of the image: the binary has to be copied out of it in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package app \
    && install -D target/release/statewright /out/statewright

FROM debian:bookworm-slim
RUN groupadd --system --gid 10001 statewright \
    && useradd --system --uid 10001 --gid statewright --no-create-home --home-dir /data statewright \
    && install -d -o statewright -g statewright -m 0700 /data
COPY --from=build /out/statewright /usr/local/bin/statewright
COPY machines/*.yaml /etc/statewright/machines/
USER 10001:10001
WORKDIR /data
VOLUME /data
ENV STATEWRIGHT_LISTEN=0.0.0.0:7474 \
    STATEWRIGHT_STORE=sqlite:/data/statewright.db \
    STATEWRIGHT_LOG_FORMAT=json \
    STATEWRIGHT_URL=http://127.0.0.1:7474
EXPOSE 7474
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["statewright", "doctor", "--ready"]
ENTRYPOINT ["statewright"]
CMD ["serve", "--machines", "/etc/statewright/machines"]
