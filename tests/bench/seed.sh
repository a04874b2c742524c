#!/usr/bin/env bash
# The tutorial's benchmark, ours beside genuine Kafka 2.8.0 with ZooKeeper 3.6.2, with the same Java tools in one run.
#   seed.sh [--records 5000000] [--nodes 1|3] [--rounds 1]
# Prints a table: throughput and latency as the tools print them, server CPU seconds, peak RSS, start-up, idle.
# Needs Java 17, Maven, about 12 GB of disk for the default size, and a quiet machine. The two sides take turns.
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
set +e
records=5000000 nodes=1 rounds=1
while [ $# -gt 0 ]; do
  case $1 in
    --records) records=$2; shift 2 ;; --nodes) nodes=$2; shift 2 ;; --rounds) rounds=$2; shift 2 ;;
    *) sed -n '2,5s/^# \?//p' "$0" >&2; exit 2 ;;
  esac
done
binary=$(tripod_binary)
bin=$(peer_bin 2.8.0) && peer_bin zookeeper-3.6.2 >/dev/null || exit 1
for n in $(seq 0 $((nodes - 1))); do
  for port in 39092 39181 39281 39080 29092 29102 29122 29132; do places+=("127.0.0.1:$((port + n))"); done
done
need_ports "${places[@]}"
tick=$(getconf CLK_TCK)
now_ms() { date +%s%3N; }

cpu_s() { # CPU seconds of the processes so far
  local pid sum=0 used
  for pid in "$@"; do used=$(awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$pid/stat" 2>/dev/null); sum=$((sum + ${used:-0})); done
  awk "BEGIN { printf \"%.2f\", $sum / $tick }"
}
rss_mb() { # rss_mb VmHWM|VmRSS PID...: the largest of the processes
  local field=$1 pid kb most=0; shift
  for pid in "$@"; do kb=$(awk -v f="$field:" '$1 == f { print $2 }' "/proc/$pid/status" 2>/dev/null); [ "${kb:-0}" -le "$most" ] || most=$kb; done
  awk "BEGIN { printf \"%.0f\", $most / 1024 }"
}

acknowledged() { # until one record is acknowledged
  local end=$(($(now_ms) + 120000))
  until printf 'x\n' | "$binary" console-producer --bootstrap-server "$1" --topic first-record --request-required-acks 1 >/dev/null 2>&1; do
    [ "$(now_ms)" -lt "$end" ] || return 1
  done
}

bench() { # bench LABEL BOOTSTRAP STARTED_MS PID...
  local label=$1 bootstrap=$2 started=$3 first topic="benchmark-$RANDOM" c0 c1 c2 produced consumed idle0
  shift 3
  acknowledged "$bootstrap"; first=$(($(now_ms) - started))
  # Idle: ten seconds without clients.
  idle0=$(cpu_s "$@"); local until=$(($(now_ms) + 10000)); wait_for 11 eval '[ $(now_ms) -ge '$until' ]'
  local idle; idle=$(awk "BEGIN { printf \"%.2f\", ($(cpu_s "$@") - $idle0) * 10 / $nodes }")
  local idle_rss; idle_rss=$(rss_mb VmRSS "$@")
  for pid in "$@"; do echo 5 >"/proc/$pid/clear_refs" 2>/dev/null; done
  "$bin/kafka-topics.sh" --bootstrap-server "$bootstrap" --create --topic "$topic" --partitions 1 --replication-factor 1 >/dev/null 2>&1
  c0=$(cpu_s "$@")
  produced=$("$bin/kafka-producer-perf-test.sh" --topic "$topic" --num-records "$records" --record-size 1000 --throughput -1 \
    --producer-props "bootstrap.servers=$bootstrap" acks=1 2>/dev/null | grep '99.9th')
  c1=$(cpu_s "$@")
  consumed=$("$bin/kafka-consumer-perf-test.sh" --broker-list "$bootstrap" --topic "$topic" --fetch-size 1048576 --messages "$records" 2>/dev/null | tail -1)
  c2=$(cpu_s "$@")
  "$bin/kafka-topics.sh" --bootstrap-server "$bootstrap" --delete --topic "$topic" >/dev/null 2>&1
  awk -v label="$label" -v p="$produced" -v c="$consumed" -v a="$c0" -v b="$c1" -v d="$c2" -v peak="$(rss_mb VmHWM "$@")" \
      -v first="$first" -v idle="$idle" -v irss="$idle_rss" 'BEGIN {
    split(p, w, /[ ,(]+/); n = split(c, v, /, */);
    printf "%-28s %9.0f %8.1f %8.1f %8.0f %9.1f %9.0f %8.1f %8.1f %7d %8d %6.2f %6d\n",
      label, w[4], w[6], w[8], w[12], v[4], v[6], b - a, d - b, peak, first, idle, irss }'
}

ports() { local n list=; for n in $(seq "$nodes"); do list+=${list:+,}127.0.0.1:$(($1 + n - 1)); done; echo "$list"; }

ours() {
  local started; started=$(now_ms)
  local pids_of=() n
  if [ "$nodes" = 1 ]; then
    launch "$work/ours.log" "$binary" dev --port 39092 --zookeeper-port 39181 --http-port 39080 --data-dir "$work/ours"
    pids_of=("$launched")
  else # three processes, each coordinator and broker
    for n in 0 1 2; do
      launch "$work/ours-$n.log" "$binary" serve --roles coordinator,broker --node-id $((n + 1)) --data-dir "$work/ours/$n" \
        --server 1=127.0.0.1:39281:39381 --server 2=127.0.0.1:39282:39382 --server 3=127.0.0.1:39283:39383 \
        --client-port $((39181 + n)) --http-port $((39080 + n)) --listeners "PLAINTEXT://127.0.0.1:$((39092 + n))" \
        --zookeeper-connect 127.0.0.1:39181,127.0.0.1:39182,127.0.0.1:39183
      pids_of+=("$launched")
    done
  fi
  bench "tripod, $nodes node(s)" "$(ports 39092)" "$started" "${pids_of[@]}"
  stop_all; rm -rf "$work/ours"
}
theirs() {
  local started pids_of; started=$(now_ms)
  "$root/tests/peers/peer.sh" start kafka-2.8.0 --brokers "$nodes" --port-base 29092 --dir "$work/theirs" >"$work/theirs.json" 2>&1 || { cat "$work/theirs.json"; return 1; }
  pids_of=$(awk '{ print $1 }' "$work/theirs/pids")
  # shellcheck disable=SC2086  # a list of numbers
  bench "Kafka 2.8.0 + ZooKeeper, $nodes" "$(ports 29092)" "$started" $pids_of
  "$root/tests/peers/peer.sh" stop "$work/theirs" >/dev/null; rm -rf "$work/theirs"
}

printf '%-28s %9s %8s %8s %8s %9s %9s %8s %8s %7s %8s %6s %6s\n' "$records x 1000 B, acks=1" 'rec/s' 'MB/s' 'avg ms' 'max ms' 'read MB/s' 'read n/s' 'cpu w s' 'cpu r s' 'peak MB' 'first ms' 'idle %' 'RSS MB'
for _ in $(seq "$rounds"); do theirs; ours; done
echo "cpu w / cpu r: CPU seconds of all server processes while producing / consuming. peak, RSS: of the largest process. idle: % of a core per node."
