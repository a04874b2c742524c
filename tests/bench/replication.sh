#!/usr/bin/env bash
# Replication, ours beside genuine Kafka 2.8.0 (3 brokers + 3 ZooKeepers) and 4.3.1 (3 combined nodes of KRaft), with the
# same Java clients (2.8.0's) in one run.
#   replication.sh [--records 1000000] [--seconds 30] [--kills 10] [--topics 1000] [--partitions 1] [--only "ours zk kraft"]
# Prints a table of a column each; a figure that could not be taken prints "-". Topics have 3 replicas, min.insync.replicas=2,
# acks=all. Needs Java 17 (the JDK), Maven and a quiet machine. The sides take turns.
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
set +e
records=1000000 seconds=30 kills=10 topics=1000 partitions=1 sides="zk kraft ours"
while [ $# -gt 0 ]; do
  case $1 in
    --records) records=$2 ;; --seconds) seconds=$2 ;; --kills) kills=$2 ;; --topics) topics=$2 ;; --partitions) partitions=$2 ;; --only) sides=$2 ;;
    *) sed -n '2,6s/^# \?//p' "$0" >&2; exit 2 ;;
  esac
  shift 2 || exit 2
done
binary=$(tripod_binary)
bin=$(peer_bin 2.8.0) && peer_bin zookeeper-3.6.2 >/dev/null && peer_bin 4.3.1 >/dev/null || exit 1
peer="$root/tests/peers/peer.sh"
tick=$(getconf CLK_TCK)
now_ms() { date +%s%3N; }
sleep_ms() { local until=$(($(now_ms) + $1)); wait_for $(($1 / 1000 + 2)) eval "[ \$(now_ms) -ge $until ]"; }
declare -A figure # "SIDE NAME" -> what the table prints

# ---- the two sides: up (all), pids (of node N, or of all), kill9 N|all, respawn N|all, down
ours_up() { respawn_ours all; }
respawn_ours() {
  local n
  for n in $([ "$1" = all ] && echo 1 2 3 || echo "$1"); do
    launch "$work/ours-$n.log" "$binary" serve --roles coordinator,broker --node-id "$n" --data-dir "$work/ours/$n" \
      --server 1=127.0.0.1:38181:38281 --server 2=127.0.0.1:38182:38282 --server 3=127.0.0.1:38183:38283 \
      --client-port $((38380 + n)) --http-port $((38480 + n)) --listeners "PLAINTEXT://127.0.0.1:$((38091 + n))" \
      --zookeeper-connect 127.0.0.1:38381,127.0.0.1:38382,127.0.0.1:38383
    echo "$launched" >"$work/ours-$n.pid"
  done
}
pids_ours() { local n; for n in $([ "$1" = all ] && echo 1 2 3 || echo "$1"); do cat "$work/ours-$n.pid"; done; }
ours_down() { stop_all; rm -rf "$work/ours"; }

# A genuine side is zk or kraft; its directory has its name.
genuine_up() { # genuine_up SIDE PEER PORT
  "$peer" start "$2" --brokers 3 --no-wait --port-base "$3" --dir "$work/$1" >"$work/$1.json" 2>&1
}
genuine_names() { # genuine_names SIDE N|all
  [ "$2" != all ] && echo "broker-$2" || { [ "$1" != zk ] || echo zk-1 zk-2 zk-3; echo broker-1 broker-2 broker-3; }
}
respawn_genuine() {
  local name
  for name in $(genuine_names "$1" "$2"); do
    "$peer" respawn "$work/$1" "$name" >/dev/null
    [ "$name" != zk-3 ] || wait_for 30 bash -c 'exec 3<>/dev/tcp/127.0.0.1/28102' # as its start does: brokers after the ensemble
  done
}
# A broker that is back before its session of before has ended finds its own /brokers/ids node, and gives up: it is started again, as a supervisor would.
revive_genuine() {
  local name
  for name in $("$peer" status "$work/$1" | awk '$3 == "down" { print $1 }'); do "$peer" respawn "$work/$1" "$name" >/dev/null; done
}
pids_genuine() { local name; for name in $(genuine_names "$1" "$2"); do "$peer" status "$work/$1" | awk -v n="$name" '$1 == n && $3 == "up" { print $2 }'; done; }
genuine_down() { "$peer" stop "$work/$1" >/dev/null 2>&1; rm -rf "${work:?}/$1"; }
zk_up() { genuine_up zk kafka-2.8.0 28092; }
kraft_up() { genuine_up kraft kafka-4.3.1 18092; }
for side in zk kraft; do
  for verb in respawn revive pids; do eval "${verb}_$side() { ${verb}_genuine $side \"\$@\"; }"; done
  eval "${side}_down() { genuine_down $side; }"
done
revive_ours() { :; }
trap 'for side in zk kraft; do "$peer" stop "$work/$side" >/dev/null 2>&1; done; cleanup' EXIT

kill9() { end KILL "$1" "$2"; }
end() { # end SIGNAL SIDE N|all
  local list; list=$("pids_$2" "$3")
  # shellcheck disable=SC2086  # a list of numbers
  kill -"$1" $list 2>/dev/null
  for pid in $list; do wait_for 60 gone "$pid"; done
}

# ---- measuring
topic() { timeout 20 "$binary" kafka-topics --bootstrap-server "$bootstrap" --create --if-not-exists --topic "$1" --partitions 1 --replication-factor 3 --config min.insync.replicas=2 >/dev/null 2>&1; }
first_record() { # first_record SIDE TOPIC SINCE_MS: ms until a record with three replicas is acknowledged by all
  local end=$(($(now_ms) + 120000))
  until topic "$2" && printf 'x\n' | timeout 20 "$binary" console-producer --bootstrap-server "$bootstrap" --topic "$2" --request-required-acks all >/dev/null 2>"$work/first.err" && ! grep -q ERROR "$work/first.err"; do
    [ "$(now_ms)" -lt "$end" ] || { echo -; return; }
    "revive_$1"
  done
  echo $(($(now_ms) - $3))
}
described() { timeout 20 "$binary" kafka-topics --bootstrap-server "$bootstrap" --describe --topic "$1" 2>/dev/null; }
leader_of() { described "$1" | grep -oE 'Leader: [0-9]+' | head -1 | grep -oE '[0-9]+'; }
full() { [ "$(described "$1" | grep -oE 'Isr: [0-9,]+' | tr -cd , | wc -c)" = 2 ]; }
perf() { # perf RECORDS RATE COLUMN-REGEX
  "$bin/kafka-producer-perf-test.sh" --topic steady --num-records "$1" --record-size 1000 --throughput "$2" \
    --producer-props "bootstrap.servers=$bootstrap" acks=all 2>/dev/null | tail -1 | grep -oE "$3" | grep -oE '^[0-9]+' || echo -
}
spread() { sort -n | awk '{ v[NR] = $1 } END { if (NR) printf "%d / %d (%d runs)\n", v[int((NR + 1) / 2)], v[NR], NR; else print "-" }'; }
gap_ms() { # the longest time between two acknowledgements in the verifiable producer's output
  grep -F '"producer_send_success"' "$1" | grep -oE '"timestamp":[0-9]+' | cut -d: -f2 | sort -n |
    awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { if (NR > 1) print most + 0 }'
}
producing() { grep -qF producer_send_success "$1"; }

start_producing() { # start_producing OUT: 1,000 records/s with default settings; its pid is in $producer
  # The tool sets retries=0; the producer's own default is what applications run with.
  printf 'retries=2147483647\n' >"$work/producer.properties"
  launch "$1" "$bin/kafka-verifiable-producer.sh" --bootstrap-server "$bootstrap" --topic steady --acks -1 --throughput 1000 \
    --max-messages 2000000 --producer.config "$work/producer.properties"
  producer=$launched
  wait_for 60 producing "$1"; sleep_ms 2000
}
stop_producing() { # stop_producing OUT: prints the gap
  sleep_ms 1000
  kill -TERM "$producer" 2>/dev/null; wait_for 20 gone "$producer"
  gap_ms "$1"; rm -f "$1"
}
leader_killed() { # leader_killed SIDE: the gap of one kill -9 of the leader
  local out="$work/acks" leader producer
  wait_for 90 full steady && leader=$(leader_of steady) && [ -n "$leader" ] || return
  start_producing "$out"
  kill9 "$1" "$leader"; local killed; killed=$(now_ms)
  after() { [ "$(grep -F producer_send_success "$out" | tail -1 | grep -oE '"timestamp":[0-9]+' | cut -d: -f2)" -gt $((killed + 1500)) ]; }
  wait_for 90 after
  stop_producing "$out"
  "respawn_$1" "$leader"
}
rolling() { # rolling SIDE: the gap while each broker is ended by SIGTERM and started again, one after the other
  local out="$work/acks" n producer
  wait_for 90 full steady || return
  start_producing "$out"
  for n in 1 2 3; do
    end TERM "$1" "$n"; "respawn_$1" "$n"
    wait_for 90 full steady || { stop_producing "$out" >/dev/null; return; }
  done
  stop_producing "$out"
}
cpu_ticks() { local pid sum=0 used; for pid in "$@"; do used=$(awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$pid/stat" 2>/dev/null); sum=$((sum + ${used:-0})); done; echo "$sum"; }
rest() { # rest SIDE: RSS of the largest node and idle CPU per node over ten seconds; a node of theirs is a broker and a ZooKeeper
  local list before rss; list=$("pids_$1" all)
  # shellcheck disable=SC2086
  {
    before=$(cpu_ticks $list); sleep_ms 10000
    figure["$1 idle"]=$(awk "BEGIN { printf \"%.2f\", ($(cpu_ticks $list) - $before) * 100 / $tick / 10 / 3 }")
    rss=$(for pid in $list; do awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status"; done | awk '{ sum += $1 } END { printf "%.0f", sum / 1024 / 3 }')
  }
  figure["$1 rss"]=$rss
}

bench() { # bench SIDE
  local side=$1 started n gaps="$work/gaps.$1"
  started=$(now_ms); "${side}_up" || { cat "$work/$side.json"; return 1; }
  figure["$side first"]=$(first_record "$side" steady "$started")
  wait_for 60 full steady
  perf "$((records / 10 + 1000))" -1 . >/dev/null # warm
  figure["$side rate"]=$(perf "$records" -1 '[0-9]+\.?[0-9]* records/sec')
  figure["$side p99"]=$(perf $((seconds * 1000)) 1000 '[0-9]+ ms 99th')
  : >"$gaps"
  for n in $(seq "$kills"); do leader_killed "$side" >>"$gaps"; done
  figure["$side gap"]=$(spread <"$gaps")
  figure["$side rolling"]=$(rolling "$side"); : "${figure["$side rolling"]:=-}"
  wait_for 90 full steady
  kill9 "$side" all; started=$(now_ms); "respawn_$side" all
  figure["$side again"]=$(first_record "$side" steady "$started")
  figure["$side topics"]=$("$bin/run-class.sh" "$root/tests/bench/CreateTopics.java" "$bootstrap" "$topics" "$partitions" 2>"$work/topics.err" | grep -E '^[0-9]+$' || echo -)
  rest "$side"
  "${side}_down"
}

for side in $sides; do
  case $side in
    zk) bootstrap=127.0.0.1:28092,127.0.0.1:28093,127.0.0.1:28094 ;;
    kraft) bootstrap=127.0.0.1:18092,127.0.0.1:18093,127.0.0.1:18094 ;;
    ours) bootstrap=127.0.0.1:38092,127.0.0.1:38093,127.0.0.1:38094 ;;
  esac
  bench "$side"
done
row() { printf '%-58s %22s %22s %22s\n' "$1" "${figure["ours $2"]:--}" "${figure["zk $2"]:--}" "${figure["kraft $2"]:--}"; }
printf '%-58s %22s %22s %22s\n' "3 nodes, 3 replicas, min ISR 2, acks=all" tripod "Kafka 2.8.0" "Kafka 4.3.1"
row "three processes from start to first record, ms" first
row "$records records of 1000 B, records/s" rate
row "1,000 records/s for $seconds s, p99 latency, ms" p99
row "kill -9 of the leader, longest gap, ms: median / worst" gap
row "rolling restart by SIGTERM, longest gap, ms" rolling
row "kill -9 of all, from start to first acknowledgement, ms" again
row "$topics topics of $partitions partition(s) created, ms" topics
row "with those topics: RSS per node, MB" rss
row "with those topics: idle CPU per node, % of a core" idle
echo "A node of Kafka 2.8.0 is a broker and a ZooKeeper."
