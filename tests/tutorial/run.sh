#!/usr/bin/env bash
# The tutorial, command by command, against three coordinators and three brokers on node1, node2, node3.
#   run.sh ours      with our own tools        run.sh genuine   with the Java tools of Kafka 2.8.0, ZooKeeper 3.6.2
# Needs ports 2181, 2888, 3888 and 9092 of these three addresses, and the names node1, node2, node3 (127.0.0.1-3); added to /etc/hosts when run as root.
# RECORDS: how many records the benchmark step sends (default 200000).
# ENSEMBLE: who runs the ensemble, ours (default) or genuine: our brokers then live on three genuine ZooKeepers 3.6.2.
# REPLICATION: the replication factor of its topics (default 1, as in the tutorial; 3 keeps every record on every broker).
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
set +e

tools=${1:-ours}
binary=$(tripod_binary)
records=${RECORDS:-200000}
replication=${REPLICATION:-1}
ensemble=${ENSEMBLE:-ours}
case $replication in 1 | 2 | 3) ;; *) say "REPLICATION is 1, 2 or 3"; exit 2 ;; esac
case $ensemble in ours | genuine) ;; *) say "ENSEMBLE is ours or genuine"; exit 2 ;; esac

links() { # the tools under their own names, as symlinks to the one binary
  mkdir -p "$1"
  local name
  for name in kafka-topics kafka-console-producer kafka-console-consumer kafka-producer-perf-test kafka-consumer-perf-test \
    kafka-leader-election kafka-consumer-groups kafka-server-start kafka-server-stop zookeeper-server-start zookeeper-server-stop \
    zkServer zkCli; do ln -sf "$binary" "$1/$name.sh"; done
}
ours=$work/bin
links "$ours"
case $tools in
  ours) bin=$ours zkbin=$ours ;;
  genuine)
    have_java || { skip "tutorial with the genuine tools" "no Java on this machine"; finish "tutorial ($tools tools)"; }
    bin=$(peer_bin 2.8.0) && zkbin=$(peer_bin zookeeper-3.6.2) || { fail "fetch the genuine tools"; finish "tutorial ($tools tools)"; }
    export KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" ;;
  *) say "usage: run.sh ours|genuine"; exit 2 ;;
esac
coordinator=("$ours/zkServer.sh")
if [ "$ensemble" = genuine ]; then
  have_java || { skip "tutorial on genuine ZooKeepers" "no Java on this machine"; finish "tutorial ($tools tools)"; }
  genuine=$(peer_bin zookeeper-3.6.2) || { fail "fetch the genuine ZooKeeper"; finish "tutorial ($tools tools)"; }
  coordinator=(env LOG_DIR="$work" "$genuine/zkServer.sh")
fi

for n in 1 2 3; do
  getent hosts "node$n" >/dev/null || echo "127.0.0.$n node$n" >>/etc/hosts || { skip "tutorial $tools" "node$n has no address and /etc/hosts is not ours"; finish "tutorial ($tools tools)"; }
done
for n in 1 2 3; do places+=("node$n:2181" "node$n:2888" "node$n:3888" "node$n:9092"); done
need_ports "${places[@]}"
all=node1:9092,node2:9092,node3:9092

# ---- 1. ZooKeeper: zoo.cfg, myid, three coordinators, one leader and two followers
coordinator_files() {
  local n=$1 d=$work/zk$1
  mkdir -p "$d/conf" "$d/data"
  printf '%s\n' tickTime=2000 initLimit=10 syncLimit=5 "dataDir=$d/data" clientPort=2181 "clientPortAddress=node$n" "admin.serverAddress=node$n" \
    server.1=node1:2888:3888 server.2=node2:2888:3888 server.3=node3:2888:3888 >"$d/conf/zoo.cfg"
  echo "$n" >"$d/data/myid"
}
mode() { "$zkbin/zkServer.sh" status "$work/zk$1/conf/zoo.cfg" 2>&1 | grep -E '^Mode: '; }
modes() { for n in 1 2 3; do printf 'srvr' | timeout 2 bash -c "exec 3<>/dev/tcp/node$n/2181; cat >&3; cat <&3" | grep '^Mode'; done | sort | uniq -c | tr -s ' \n' ' '; }
three_modes() { [ "$(modes)" = " 2 Mode: follower 1 Mode: leader " ] || [ "$(modes)" = " 1 Mode: leader 2 Mode: follower " ]; }

for n in 1 2 3; do
  coordinator_files $n
  launch "$work/zk$n/out.log" "${coordinator[@]}" start-foreground "$work/zk$n/conf/zoo.cfg"
done
check "1 three coordinators form an ensemble" wait_for 20 three_modes
for n in 1 2 3; do mode $n; done | sort | uniq -c >"$work/modes"
check "1 zkServer.sh status: one leader, two followers" bash -c "grep -q '1 Mode: leader' '$work/modes' && grep -q '2 Mode: follower' '$work/modes' || { cat '$work/modes'; false; }"

# ---- 2. Kafka: three server.properties, start-all over a slave file
for n in 1 2 3; do
  mkdir -p "$work/kafka$n"
  printf '%s\n' "broker.id=$((n - 1))" "listeners=PLAINTEXT://node$n:9092" "advertised.listeners=PLAINTEXT://node$n:9092" \
    "log.dirs=$work/kafka$n/data" zookeeper.connect=node1:2181,node2:2181,node3:2181 \
    "default.replication.factor=$replication" >"$work/kafka$n/server.properties"
  echo "node$n" >>"$work/slave"
done
start_all() { # the tutorial's start-kafka.sh, with a local process in place of ssh
  while read -r line; do
    launch "$work/kafka${line#node}/out.log" env JMX_PORT=9988 "$ours/kafka-server-start.sh" "$work/kafka${line#node}/server.properties"
    eval "broker_${line}=$launched"
  done <"$work/slave"
}
registered() { "$ours/zkCli.sh" -server node1:2181 ls /brokers/ids 2>/dev/null | grep -q '\[0, 1, 2\]'; }
start_all
check "2 three brokers register" wait_for 20 registered
check "2 JMX_PORT is answered with one line that points to /metrics" grep -q '/metrics' "$work/kafka1/out.log"
# A broker is registered before it stands for election, and node1 may hear of it later.
controlled() { "$zkbin/zkCli.sh" -server node1:2181 get /controller 2>/dev/null | grep -q '"brokerid":[012]'; }
check "2 zkCli.sh get shows the controller" wait_for 20 controlled

# ---- 3. first topic, producer and consumer
expect "3 kafka-topics.sh --create" 'Created topic test\.' "$bin/kafka-topics.sh" --create --bootstrap-server node1:9092 --topic test
expect "3 kafka-topics.sh --list" '^test$' "$bin/kafka-topics.sh" --list --bootstrap-server node1:9092
printf '%s\n' hello '中文消息' 'third line' >"$work/lines"
check "3 kafka-console-producer.sh --broker-list" bash -c "timeout 60 '$bin/kafka-console-producer.sh' --broker-list node1:9092 --topic test <'$work/lines'"
timeout 60 "$bin/kafka-console-consumer.sh" --bootstrap-server node1:9092 --topic test --from-beginning --max-messages 3 --timeout-ms 30000 >"$work/read" 2>/dev/null
check "3 kafka-console-consumer.sh --from-beginning: every line, Chinese too" diff "$work/lines" "$work/read"

# ---- 4. the benchmark
expect "4 kafka-topics.sh --zookeeper --create" 'Created topic benchmark\.' "$bin/kafka-topics.sh" --zookeeper node1:2181 --create --topic benchmark --partitions 1 --replication-factor "$replication"
LIMIT=300 expect "4 kafka-producer-perf-test.sh" "^$records records sent, [0-9.]+ records/sec \([0-9.]+ MB/sec\), [0-9.]+ ms avg latency, [0-9.]+ ms max latency, [0-9]+ ms 50th, [0-9]+ ms 95th, [0-9]+ ms 99th, [0-9]+ ms 99.9th\.$" \
  "$bin/kafka-producer-perf-test.sh" --topic benchmark --num-records "$records" --throughput -1 --record-size 1000 --producer-props "bootstrap.servers=$all" acks=1
LIMIT=300 expect "4 kafka-consumer-perf-test.sh" "^[0-9-]+ [0-9:]+, [0-9-]+ [0-9:]+, [0-9.]+, [0-9.]+, $records, [0-9.]+, [0-9]+, [0-9]+, [0-9.]+, [0-9.]+$|^[0-9-]+ [0-9:]+(:[0-9]+)?, .*, $records, " \
  "$bin/kafka-consumer-perf-test.sh" --broker-list "$all" --topic benchmark --fetch-size 1048576 --messages "$records"

# ---- 5. two partitions, a group of three
expect "5 kafka-topics.sh --zookeeper --alter" 'Adding partitions succeeded!' "$bin/kafka-topics.sh" --zookeeper node1:2181 --alter --partitions 2 --topic test
two_partitions() { "$ours/kafka-topics.sh" --bootstrap-server node1:9092 --describe --topic test | grep -q 'PartitionCount: 2'; }
check "5 the partition comes to life" wait_for 10 two_partitions
assignors="range:org.apache.kafka.clients.consumer.RangeAssignor roundrobin:org.apache.kafka.clients.consumer.RoundRobinAssignor sticky:org.apache.kafka.clients.consumer.StickyAssignor"
owners() { "$ours/kafka-consumer-groups.sh" --bootstrap-server node1:9092 --describe --group "$1" --members 2>/dev/null | awk -v g="$1" '$1 == g { print $NF }' | sort | tr '\n' ' '; }
group_shared() { [ "$(owners "$1")" = "0 1 1 " ]; }
group_after_death() { [ "$(owners "$1")" = "1 1 " ]; }
members_of() { for pid in "${members[@]}"; do kill -0 "$pid" 2>/dev/null && echo "$pid"; done; }
for assignor in $assignors; do
  name=${assignor%%:*} members=()
  for m in 1 2 3; do
    launch "$work/member-$name-$m" "$bin/kafka-console-consumer.sh" --bootstrap-server node1:9092 --topic test --group "group-$name" \
      --consumer-property "partition.assignment.strategy=${assignor#*:}" --consumer-property session.timeout.ms=6000 --consumer-property client.id="m$m"
    members+=("$launched")
  done
  check "5 $name: two share the partitions, a third gets none" wait_for 60 group_shared "group-$name"
  # End one that owns a partition: whoever owns partition 0 is named by its client id.
  owner=$("$ours/kafka-consumer-groups.sh" --bootstrap-server node1:9092 --describe --group "group-$name" 2>/dev/null | awk '$2 == "test" && $3 == 0 { print $NF }')
  index=${owner#m}; index=${index:-1}
  kill -KILL "${members[$((index - 1))]}" 2>/dev/null
  check "5 $name: one dies and its partition moves" wait_for 60 group_after_death "group-$name"
  for pid in "${members[@]}"; do kill -TERM "$pid" 2>/dev/null; done
  for pid in "${members[@]}"; do wait_for 20 gone "$pid"; done
done

# ---- 6. preferred leader election
expect "6 kafka-leader-election.sh preferred" 'Successfully completed leader election|Valid replica already elected' \
  "$bin/kafka-leader-election.sh" --bootstrap-server node1:9092 --topic test --partition 0 --election-type preferred

# ---- 7. the backlog of a stopped consumer
printf 'x%d\n' 1 2 3 4 5 6 7 | timeout 60 "$bin/kafka-console-producer.sh" --broker-list node1:9092 --topic test >/dev/null 2>&1
"$bin/kafka-consumer-groups.sh" --bootstrap-server node1:9092 --describe --group group-range >"$work/lag" 2>&1
lag=$(awk '$1 == "group-range" && $2 == "test" && $6 ~ /^[0-9]+$/ { sum += $6 } END { print sum + 0 }' "$work/lag")
check "7 kafka-consumer-groups.sh --describe shows the lag (7)" bash -c "[ '$lag' = 7 ] || { cat '$work/lag'; false; }"

# ---- every replica of every topic, the internal one of three too, is in sync
in_sync() { # in_sync TOPIC REPLICAS
  "$ours/kafka-topics.sh" --bootstrap-server node1:9092 --describe --topic "$1" 2>/dev/null |
    awk -v n="$2" '/Partition: / { seen++; match($0, /Isr: [0-9,]+/); if (split(substr($0, RSTART + 5, RLENGTH - 5), ids, ",") != n) short++ } END { exit !(seen && !short) }'
}
check "7 test has $replication replica(s) in sync" wait_for 20 in_sync test "$replication"
check "7 benchmark has $replication replica(s) in sync" wait_for 20 in_sync benchmark "$replication"
check "7 __consumer_offsets has 3 replicas in sync" wait_for 20 in_sync __consumer_offsets 3

# ---- stop-all, and nothing was lost
stop_brokers() { local n pid; for n in 1 2 3; do eval "pid=\$broker_node$n"; kill -TERM "$pid" 2>/dev/null; done; for n in 1 2 3; do eval "pid=\$broker_node$n"; wait_for 15 gone "$pid" || return 1; done; }
check "8 stop-all ends the brokers cleanly" stop_brokers
if have_java; then
  dump=$(peer_bin 2.8.0)
  for n in 1 2 3; do
    for log in "$work/kafka$n"/data/*/*.log; do
      [ -s "$log" ] || continue
      check "8 kafka-dump-log.sh reads ${log#"$work"/}" dump_is_sane "$dump" "$log"
    done
  done
else skip "8 kafka-dump-log.sh" "no Java on this machine"; fi
start_all
check "8 the brokers come back" wait_for 20 registered
timeout 60 "$ours/kafka-console-consumer.sh" --bootstrap-server node1:9092 --topic test --from-beginning --max-messages 10 --timeout-ms 30000 >"$work/again" 2>/dev/null
check "8 every line is still there" bash -c "[ \$(wc -l <'$work/again') = 10 ]"
finish "tutorial ($tools tools, $([ "$ensemble" = ours ] || echo "genuine ensemble, ")replication factor $replication)"
