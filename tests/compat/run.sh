#!/usr/bin/env bash
# Programs that we did not write, against one throw-away node: kcat, kazoo, franz-go, kafkajs, the Java 4.x tools.
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
. "$root/tests/lib/kazoo.sh"
set +e
binary=$(tripod_binary)
here=$root/tests/compat
mkdir -p "$cache"

need_ports localhost:9092 localhost:2181 localhost:8080
launch "$work/dev.log" "$binary" dev --data-dir "$work/data"
up() { "$binary" health >/dev/null 2>&1; }
check "tripod dev is ready" wait_for 20 up || { cat "$work/dev.log"; finish compat; }
bs=localhost:9092

# ---- kcat (librdkafka)
if command -v kcat >/dev/null; then
  check "kcat produces" bash -c "printf 'k%d:v%d\n' 1 1 2 2 3 3 | kcat -b $bs -P -t kcat-topic -K: -X message.timeout.ms=20000"
  kcat -b $bs -C -t kcat-topic -o beginning -e -f '%k=%s@%o\n' >"$work/kcat" 2>"$work/kcat.err"
  check "kcat consumes" grep -q '^k3=v3@' "$work/kcat"
  check "kcat lists" bash -c "kcat -b $bs -L | grep -q 'topic \"kcat-topic\" with 1 partitions'"
  check "kcat in a group" bash -c "timeout 60 kcat -b $bs -G kcat-group -o beginning -X auto.offset.reset=earliest -c 3 -e kcat-topic 2>/dev/null | grep -q v3"
  for codec in gzip snappy lz4 zstd; do
    check "kcat with $codec" bash -c "seq 1 500 | kcat -b $bs -P -t kcat-$codec -z $codec -X message.timeout.ms=20000 && [ \$(kcat -b $bs -C -t kcat-$codec -o beginning -e 2>/dev/null | wc -l) = 500 ]"
  done
else skip kcat "not installed (apt-get install kcat)"; fi

# ---- kazoo (Python, ZooKeeper)
if kazoo_python; then
  lines kazoo "$kazoo" "$here/kazoo_check.py" localhost:2181
else skip kazoo "no Python, or kazoo could not be installed: $(tail -1 "$work/pip" 2>/dev/null)"; fi

# ---- franz-go (Go)
if command -v go >/dev/null && (cd "$here/franz-go" && go build -o "$cache/franz-go" .) >"$work/go" 2>&1; then
  lines franz-go "$cache/franz-go" $bs
else skip franz-go "no Go, or its modules could not be had: $(tail -1 "$work/go" 2>/dev/null)"; fi

# ---- kafkajs (Node)
if command -v npm >/dev/null && cp "$here"/kafkajs/* "$cache/" && { [ -d "$cache/node_modules/kafkajs" ] || (cd "$cache" && npm install --silent --no-audit --no-fund); } >"$work/npm" 2>&1; then
  lines kafkajs env KAFKAJS_NO_PARTITIONER_WARNING=1 node "$cache/check.js" $bs
else skip kafkajs "no npm, or kafkajs could not be installed: $(tail -1 "$work/npm" 2>/dev/null)"; fi

# ---- our zkCli, four-letter words and scripts beside the genuine ones of ZooKeeper 3.6.2
if have_java && command -v python3 >/dev/null && zkbin=$(peer_bin zookeeper-3.6.2 2>"$work/mvn"); then
  ln -sf "$binary" "$work/zkCli.sh"
  KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" lines zkCli python3 "$here/zkcli_compare.py" "$zkbin/zkCli.sh" "$work/zkCli.sh" localhost:2181
  KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" lines "four-letter words" python3 "$here/zkwords_compare.py" "$zkbin" "$binary" "$work/zkwords"
  mkdir -p "$work/zkauth" && lines "SASL and TLS" python3 "$here/zkauth_compare.py" "$zkbin" "$binary" "$work/zkauth"
else skip "zkCli, words and scripts beside the genuine ones" "no Java, Maven or Python: $(tail -1 "$work/mvn" 2>/dev/null)"; fi

# ---- our Kafka tools beside the genuine ones of 2.8.0
if have_java && command -v python3 >/dev/null && bin=$(peer_bin 2.8.0 2>"$work/mvn"); then
  mkdir -p "$work/tools"
  for tool in topics console-producer console-consumer producer-perf-test consumer-perf-test leader-election consumer-groups; do
    ln -sf "$binary" "$work/tools/kafka-$tool.sh"
  done
  KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" LIMIT_LINES=900 lines "Kafka's tools" python3 "$here/tools_compare.py" "$bin" "$work/tools" $bs localhost:2181
else skip "Kafka's tools beside the genuine ones" "no Java, Maven or Python: $(tail -1 "$work/mvn" 2>/dev/null)"; fi

# ---- the Java tools of Kafka 4.x
if have_java && bin=$(peer_bin 4.3.1 2>"$work/mvn"); then
  export KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
  expect "Java 4.x kafka-broker-api-versions" 'Produce\(0\): .*usable' "$bin/kafka-broker-api-versions.sh" --bootstrap-server $bs
  expect "Java 4.x creates a topic" 'Created topic j4' "$bin/kafka-topics.sh" --bootstrap-server $bs --create --topic j4 --partitions 2
  expect "Java 4.x describes it" 'Topic: j4.*PartitionCount: 2' "$bin/kafka-topics.sh" --bootstrap-server $bs --describe --topic j4
  check "Java 4.x produces (idempotent, acks=all)" bash -c "printf 'a\nb\nc\n' | timeout 60 '$bin/kafka-console-producer.sh' --bootstrap-server $bs --topic j4"
  expect "Java 4.x consumes in a group" 'Processed a total of 3 messages' "$bin/kafka-console-consumer.sh" --bootstrap-server $bs --topic j4 --from-beginning --max-messages 3 --timeout-ms 30000 --group j4-group
  expect "Java 4.x describes the group" 'j4-group +j4 ' "$bin/kafka-consumer-groups.sh" --bootstrap-server $bs --describe --group j4-group
  expect "Java 4.x alters a topic's settings" 'Completed updating config' "$bin/kafka-configs.sh" --bootstrap-server $bs --alter --entity-type topics --entity-name j4 --add-config retention.ms=3600000
  expect "Java 4.x describes a topic's settings" 'retention.ms=3600000' "$bin/kafka-configs.sh" --bootstrap-server $bs --describe --entity-type topics --entity-name j4
  expect "Java 4.x elects leaders" 'Valid replica already elected|Successfully completed' "$bin/kafka-leader-election.sh" --bootstrap-server $bs --election-type PREFERRED --topic j4 --partition 0
  expect "Java 4.x producer performance" '^20000 records sent.*99.9th' "$bin/kafka-producer-perf-test.sh" --topic j4 --num-records 20000 --record-size 100 --throughput -1 --producer-props bootstrap.servers=$bs acks=1
else skip "Java 4.x tools" "no Java or Maven: $(tail -1 "$work/mvn" 2>/dev/null)"; fi
finish "compat"
