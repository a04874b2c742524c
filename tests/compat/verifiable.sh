#!/usr/bin/env bash
# Kafka's own verifiable producer, verifiable consumer and replica verification against three nodes, while faults go on:
# kill -9, a rolling restart, a paused follower. Topics have 3 replicas, min.insync.replicas=2, acks=all.
#   verifiable.sh [ours]     three processes of ours, with the tools of 2.8.0, then for one fault with those of 4.3.1
#   verifiable.sh theirs     the same against genuine Kafka 2.8.0, three brokers and three ZooKeepers: is this script right? (four minutes)
# KEEP=1 leaves all files. Needs Java, Maven and Python.
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
. "$root/tests/lib/verified.sh"
set +e
side=${1:-ours}
case $side in ours | theirs) ;; *) sed -n '4,6s/^# \?//p' "$0" >&2; exit 2 ;; esac
binary=$(tripod_binary)
peer="$root/tests/peers/peer.sh"
partitions=4 assignment=1:2:3,2:1:3,1:2:3,2:1:3 # node 3 follows, and leads only when both others are away
have_java && command -v python3 >/dev/null && bin=$(peer_bin 2.8.0 2>"$work/mvn") ||
  { skip "the verifiable tools" "no Java, Maven or Python: $(tail -1 "$work/mvn" 2>/dev/null)"; finish verifiable; }
export KAFKA_JVM_PERFORMANCE_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# So that a paused follower leaves the in-sync set, and comes back, within the test.
lag=replica.lag.time.max.ms=4000

# ---- the two sides: up, start N, signal N SIGNAL, down N (is it?); broker port of node N is $brokers+N, ZooKeeper's is $zookeepers+N
ours_up() { local n; for n in 1 2 3; do ours_start $n; done; }
ours_start() {
  launch "$work/ours-$1.log" "$binary" serve --roles coordinator,broker --node-id "$1" --data-dir "$work/ours/$1" \
    --server 1=127.0.0.1:27181:27281 --server 2=127.0.0.1:27182:27282 --server 3=127.0.0.1:27183:27283 \
    --client-port $((27380 + $1)) --http-port $((27480 + $1)) --listeners "PLAINTEXT://127.0.0.1:$((27090 + $1))" \
    --zookeeper-connect 127.0.0.1:27381,127.0.0.1:27382,127.0.0.1:27383 --override "$lag"
  node[$1]=$launched
}
ours_signal() { kill "-$2" "${node[$1]}"; }
ours_down() { gone "${node[$1]}"; }
ours_revive() { :; }

theirs_up() { "$peer" start kafka-2.8.0 --brokers 3 --port-base 27692 --dir "$work/theirs" --prop "$lag" >"$work/theirs.json"; }
theirs_start() { "$peer" respawn "$work/theirs" "zk-$1" && "$peer" respawn "$work/theirs" "broker-$1"; } >/dev/null
theirs_signal() { # a broker signs off at its ZooKeeper: that goes after it
  "$peer" kill "$work/theirs" "broker-$1" "$2"
  [ "$2" != TERM ] || wait_for 40 theirs_ended "broker-$1"
  "$peer" kill "$work/theirs" "zk-$1" "$2"
} >/dev/null
theirs_ended() { "$peer" status "$work/theirs" | grep -x "$1 - down" >/dev/null; } # reads to the end: pipefail
theirs_down() { theirs_ended "broker-$1" && theirs_ended "zk-$1"; }
# A broker that is back before its session of before has ended gives up: it is started again, as a supervisor would.
theirs_revive() {
  local name
  for name in $("$peer" status "$work/theirs" | awk '$3 == "down" { print $1 }'); do "$peer" respawn "$work/theirs" "$name" >/dev/null; done
}
case $side in ours) brokers=27090 zookeepers=27380 ;; theirs) brokers=27691 zookeepers=27701 ;; esac
bootstrap=127.0.0.1:$((brokers + 1)),127.0.0.1:$((brokers + 2)),127.0.0.1:$((brokers + 3))
zookeeper_connect=127.0.0.1:$((zookeepers + 1))
trap '[ "$side" = ours ] || "$peer" stop "$work/theirs" >/dev/null 2>&1; cleanup' EXIT
need_ports $(for n in 1 2 3; do echo "127.0.0.1:$((brokers + n))" "127.0.0.1:$((zookeepers + n))"; done) \
  127.0.0.1:2718{1,2,3} 127.0.0.1:2728{1,2,3} 127.0.0.1:2748{1,2,3}

# ---- looking beyond what verified.sh does
raft_leader() {
  local n
  for n in 1 2 3; do
    printf srvr | timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$((zookeepers + n)); cat >&3; cat <&3" 2>/dev/null | grep -q '^Mode: leader' && echo $n
  done
}
left() { # left N: no partition has it in sync, as far as the leaders wrote down
  local p
  for p in $(seq 0 $((partitions - 1))); do
    znode "/brokers/topics/$topic/partitions/$p/state" | grep -oE '"isr":\[[0-9,]+\]' | grep -qv "$1" || return 1
  done
}
healed() {
  local n
  "${side}_revive"
  for n in 1 2 3; do (exec 3<>"/dev/tcp/127.0.0.1/$((brokers + n))") 2>/dev/null || return 1; done
  in_sync 3
}

# ---- the faults, each on a cluster that has healed
down() { # down N SIGNAL
  "${side}_signal" "$1" "$2"
  wait_for 40 "${side}_down" "$1"
}
killed() { # killed WHAT N
  down "$2" KILL
  check "$1 (node $2): records go on" wait_for 60 flowing "$(now)"
  "${side}_start" "$2"
  check "$1 (node $2): all in sync again" wait_for 60 healed
}
rolled() {
  local n
  for n in 1 2 3; do
    down $n TERM || fail "SIGTERM ends node $n"
    "${side}_start" $n
    wait_for 60 healed || return
  done
}
paused() { # paused N: a follower, not node 1, whose coordinator is asked; the group's coordinator may be there, so that the consumer waits for it
  "${side}_signal" "$1" STOP
  check "SIGSTOP of a follower (node $1): it leaves the in-sync set" wait_for 60 left "$1"
  check "SIGSTOP of a follower (node $1): records are written" wait_for 60 written "$(now)"
  "${side}_signal" "$1" CONT
  check "SIGSTOP of a follower (node $1): it comes back" wait_for 60 healed
  check "SIGSTOP of a follower (node $1): records go on" wait_for 60 flowing "$(now)"
}
verified() { # since line $1 a report says that every replica has everything
  local where
  where=$(tail -n "+$1" "$printed.replicas" | grep -oE "max lag is 0 for partition $topic-[0-9]+ at offset [0-9]+ among $partitions partitions" | tail -1)
  [ -n "$where" ] && [[ $ends = *"$(sed -E "s/.*partition $topic-([0-9]+) at offset ([0-9]+) .*/$topic:\1:\2/" <<<"$where")"* ]]
}

"${side}_up" || { fail "three nodes start"; finish verifiable; }
begin 2.8.0
tool "$printed.replicas" "$bin/kafka-replica-verification.sh" --broker-list "$bootstrap" --topic-white-list "$topic" --time -2 --report-interval-ms 1000
replicas=$launched
check "2.8.0: records flow" wait_for 60 flowing "1 1"
killed "kill -9 of a leader" "$(leaders | head -1)"
rolled
check "rolling restart: all in sync again" healed
check "rolling restart: records go on" wait_for 60 flowing "$(now)"
paused 3
controller=$(controller)
killed "kill -9 of the controller" "$controller"
killed "kill -9 of the coordinators' leader" "$(raft_leader)"
end 2.8.0
check "kafka-replica-verification.sh: no lag at the end" wait_for 60 verified "$(wc -l <"$printed.replicas")"
check "kafka-replica-verification.sh: no replica differs" bash -c "kill -0 $replicas && ! grep -E \"doesn't match|unmatched\" '$printed.replicas'"
kill -TERM "$replicas"; wait_for 20 gone "$replicas"

if [ "$side" = ours ]; then
  if bin=$(peer_bin 4.3.1 2>"$work/mvn"); then
    begin 4.3.1
    check "4.3.1: records flow" wait_for 60 flowing "1 1"
    killed "4.3.1: kill -9 of a leader" "$(leaders | head -1)"
    end 4.3.1 --once
  else skip "the verifiable tools of 4.3.1" "$(tail -1 "$work/mvn")"; fi
fi
finish verifiable
