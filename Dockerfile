# The image: one binary, the names of Kafka's and ZooKeeper's tools as links to it, and no JVM.
# docker build -t tripod .
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY src src
RUN cargo build --release --locked --bin tripod \
 && install -D target/release/tripod /out/tripod

FROM ${BASE_IMAGE}
RUN groupadd --system --gid 10001 tripod \
 && useradd --system --uid 10001 --gid tripod --home-dir /opt/kafka --shell /bin/bash tripod \
 && mkdir -p /opt/kafka/bin /opt/kafka/config /etc/kafka/docker /etc/kafka/secrets /mnt/shared/config /var/lib/kafka/data \
 && chown -R tripod:tripod /opt/kafka /etc/kafka /mnt/shared/config /var/lib/kafka
COPY --from=build /out/tripod /usr/local/bin/tripod
RUN for tool in kafka-topics kafka-console-producer kafka-console-consumer kafka-producer-perf-test \
      kafka-consumer-perf-test kafka-leader-election kafka-consumer-groups kafka-server-start kafka-server-stop \
      zookeeper-server-start zookeeper-server-stop; do \
      ln -s /usr/local/bin/tripod "/opt/kafka/bin/$tool.sh"; \
      ln -s /usr/local/bin/tripod "/usr/local/bin/$tool.sh"; \
      ln -s /usr/local/bin/tripod "/usr/local/bin/$tool"; \
    done \
 && for tool in zkServer zkCli; do \
      ln -s /usr/local/bin/tripod "/opt/kafka/bin/$tool.sh"; \
      ln -s /usr/local/bin/tripod "/usr/local/bin/$tool.sh"; \
    done \
 && printf '#!/bin/sh\nexec tripod serve\n' > /etc/kafka/docker/run && chmod 755 /etc/kafka/docker/run
USER 10001:10001
WORKDIR /opt/kafka
VOLUME ["/var/lib/kafka/data"]
EXPOSE 9092 2181 8080
HEALTHCHECK --interval=2s --timeout=5s --start-period=20s --retries=5 CMD ["tripod", "health"]
CMD ["/etc/kafka/docker/run"]
