# The image of Millrace: one static binary. `docker compose up --build` builds it from source;
# `--build-arg BIN=prebuilt` takes the binary from dist/ instead.
ARG RUST=rust:1.95-slim-bookworm
ARG RUNTIME=debian:bookworm-slim
ARG BIN=source

FROM ${RUST} AS source
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --package millrace-cli --target x86_64-unknown-linux-gnu \
    && mkdir -p /out/data && cp target/x86_64-unknown-linux-gnu/release/millrace /out/

FROM scratch AS prebuilt
COPY dist/ /out/

FROM ${BIN} AS bin

FROM ${RUNTIME} AS runtime
COPY --from=bin --chown=10001:10001 /out/data /data
COPY --from=bin --chmod=755 /out/millrace /usr/local/bin/millrace
ENV KAFKA_LOG_DIRS=/data KAFKA_MILLRACE_HTTP_LISTENER=0.0.0.0:9644
USER 10001:10001
VOLUME /data
EXPOSE 9092 9093 9644
ENTRYPOINT ["/usr/local/bin/millrace"]
CMD ["start"]
