#!/usr/bin/env bash
# peer.sh start PEER --dir D [--brokers 1|3] [--port-base N] [--zk 1|3] [--zookeeper HOST:PORT,..]
#                    [--mode zk|kraft] [--prop k=v]... [--no-wait]
#     PEER is kafka-2.8.0, kafka-3.9.2, kafka-4.3.1 (fetched when missing) or zookeeper-3.6.2 (ensemble alone).
#     kafka-2.x runs with a ZooKeeper 3.6.2 ensemble (as many nodes as brokers, or --zk), or against an
#     ensemble that already runs (--zookeeper; e.g. our coordinator). Later ones run KRaft, every node
#     combined broker+controller; 3.x can be asked for --mode zk.
#     Ports: brokers N.., ZooKeeper clients N+10.., KRaft controllers N+20.., ZooKeeper peers N+30../N+40..
#     Prints one JSON line: bootstrap, zookeeper, pids, ready_ms (first process start -> all brokers up).
# peer.sh stop D                stops what start started in D (TERM, then KILL after 20 s); data stays
# peer.sh status D              one line per process: name pid up|down
# peer.sh kill D NAME [SIGNAL]  e.g. kill D broker-2 KILL
# peer.sh respawn D NAME        starts a stopped process of D again
# Everything listens on 127.0.0.1 only. JVM options are the shipped defaults (brokers -Xmx1G -Xms1G G1;
# ZooKeeper -Xmx512M), overridable with PEER_BROKER_HEAP / PEER_ZK_HEAP. Env PEER_CACHE: see fetch-kafka.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PEER_CACHE=${PEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/peers}
usage() { sed -n '2,17s/^# \?//p' "$0"; exit "${1:-2}"; }
now_ms() { date +%s%3N; }
started() { awk '{sub(/.*\) /,""); if ($1 != "Z") print $20}' "/proc/$1/stat" 2>/dev/null || true; }   # start time, guards against pid reuse; empty when dead

spawn() { # DIR NAME: runs DIR/NAME/run in the background, records pid and its start time
  local d=$1 n=$2
  ulimit -n 100000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
  ( cd "$d/$n" && exec setsid bash ./run </dev/null >>out.log 2>&1 9>&- ) &
  local p=$!; sleep 0.05
  echo "$p $(started $p) $n" >> "$d/pids"
}
pid_of() { # DIR NAME -> pid if it is alive and still ours
  local p s n
  while read -r p s n; do if [ "$n" = "$2" ] && [ "$(started "$p")" = "$s" ]; then echo "$p"; fi; done < "$1/pids" | tail -1
}
wait_for() { # DIR NAME FILE REGEX SECONDS
  local end=$(( $(now_ms) + $5 * 1000 ))
  until grep -qE "$4" "$1/$2/$3" 2>/dev/null; do
    [ -n "$(pid_of "$1" "$2")" ] || { echo "peer.sh: $2 ended early:" >&2; tail -20 "$1/$2"/{out.log,logs/server.log} >&2 2>/dev/null; return 1; }
    [ "$(now_ms)" -lt "$end" ] || { echo "peer.sh: $2 not up after $5 s" >&2; return 1; }
    sleep 0.1
  done
}
wait_port() { # PORT SECONDS
  local end=$(( $(now_ms) + $2 * 1000 ))
  until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do [ "$(now_ms)" -lt "$end" ] || return 1; sleep 0.1; done
}

start() {
  local peer=$1; shift
  local dir= brokers=1 base=19092 zk= zookeeper= mode= wait=1 props=()
  while [ $# -gt 0 ]; do
    case $1 in
      --dir) dir=$2; shift 2 ;; --brokers|--nodes) brokers=$2; shift 2 ;; --port-base) base=$2; shift 2 ;;
      --zk) zk=$2; shift 2 ;; --zookeeper) zookeeper=$2; shift 2 ;; --mode) mode=$2; shift 2 ;;
      --prop) props+=("$2"); shift 2 ;; --no-wait) wait=0; shift ;;
      *) echo "peer.sh: unknown option $1" >&2; usage ;;
    esac
  done
  [ -n "$dir" ] || usage
  mkdir -p "$dir"; dir=$(cd "$dir" && pwd)
  [ ! -s "$dir/pids" ] || { echo "peer.sh: $dir was started already; stop it, or use another directory" >&2; exit 1; }
  : > "$dir/pids"
  local zkn=0 i bin= zkbin=
  case $peer in
    zookeeper-*) mode=zkonly; zkn=${zk:-$brokers}; brokers=0; zkbin=$("$here/fetch-kafka.sh" "$peer") ;;
    kafka-2.*) mode=zk ;; kafka-*) mode=${mode:-kraft} ;; *) usage ;;
  esac
  [ "$mode" = zkonly ] || bin=$("$here/fetch-kafka.sh" "$peer")
  if [ "$mode" = zk ] && [ -z "$zookeeper" ]; then zkn=${zk:-$brokers}; zkbin=$("$here/fetch-kafka.sh" "zookeeper-${PEER_ZK_VERSION:-3.6.2}"); fi

  local names=()
  for ((i = 1; i <= zkn; i++)); do                       # ZooKeeper: the tutorial's zoo.cfg
    local n=zk-$i j; mkdir -p "$dir/$n/data" "$dir/$n/logs"
    { echo tickTime=2000; echo initLimit=10; echo syncLimit=5
      echo "dataDir=$dir/$n/data"; echo "clientPort=$((base + 9 + i))"; echo clientPortAddress=127.0.0.1
      echo admin.enableServer=false; echo '4lw.commands.whitelist=*'
      [ "$zkn" -eq 1 ] || for ((j = 1; j <= zkn; j++)); do echo "server.$j=127.0.0.1:$((base + 29 + j)):$((base + 39 + j))"; done
    } > "$dir/$n/zoo.cfg"
    echo "$i" > "$dir/$n/data/myid"
    printf 'export KAFKA_HEAP_OPTS="%s" LOG_DIR="$PWD/logs"\nexec "%s/zkServer.sh" start-foreground "$PWD/zoo.cfg"\n' \
      "${PEER_ZK_HEAP:--Xmx512M}" "$zkbin" > "$dir/$n/run"
    names+=("$n"); zookeeper+=${zookeeper:+,}127.0.0.1:$((base + 9 + i))
  done

  local voters= rf=1 isr=1 id=MkU3OEVBNTcwNTJENDM2Qk bootstrap=
  [ "$brokers" -lt 3 ] || { rf=3; isr=2; }
  for ((i = 1; i <= brokers; i++)); do voters+=${voters:+,}$i@127.0.0.1:$((base + 19 + i)); done
  for ((i = 1; i <= brokers; i++)); do                   # brokers: the shipped server.properties
    local n=broker-$i port=$((base + i - 1)); mkdir -p "$dir/$n/logs"
    bootstrap+=${bootstrap:+,}127.0.0.1:$port
    { if [ "$mode" = zk ]; then
        echo "broker.id=$i"; echo "listeners=PLAINTEXT://127.0.0.1:$port"
        echo "zookeeper.connect=$zookeeper"; echo zookeeper.connection.timeout.ms=18000
      else
        echo process.roles=broker,controller; echo "node.id=$i"; echo "controller.quorum.voters=$voters"
        echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((base + 19 + i))"
        echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port"
        echo inter.broker.listener.name=PLAINTEXT; echo controller.listener.names=CONTROLLER
        echo listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
      fi
      echo num.network.threads=3; echo num.io.threads=8
      echo socket.send.buffer.bytes=102400; echo socket.receive.buffer.bytes=102400; echo socket.request.max.bytes=104857600
      echo "log.dirs=$dir/$n/data"; echo num.partitions=1; echo num.recovery.threads.per.data.dir=1
      echo "offsets.topic.replication.factor=$rf"; echo "transaction.state.log.replication.factor=$rf"; echo "transaction.state.log.min.isr=$isr"
      case $peer in kafka-4.*) echo "share.coordinator.state.topic.replication.factor=$rf"; echo "share.coordinator.state.topic.min.isr=$isr" ;; esac
      echo log.retention.hours=168; echo log.segment.bytes=1073741824; echo log.retention.check.interval.ms=300000
      echo group.initial.rebalance.delay.ms=0
      local p; for p in ${props[@]+"${props[@]}"}; do echo "$p"; done
    } > "$dir/$n/server.properties"
    [ "$mode" = zk ] || "$bin/kafka-storage.sh" format -t "$id" -c "$dir/$n/server.properties" > "$dir/$n/format.log" 2>&1 9>&- &
    printf 'export KAFKA_HEAP_OPTS="%s" LOG_DIR="$PWD/logs"\nexec "%s/kafka-server-start.sh" "$PWD/server.properties"\n' \
      "${PEER_BROKER_HEAP:--Xmx1G -Xms1G}" "$bin" > "$dir/$n/run"
    names+=("$n")
  done
  wait

  local t0 n; t0=$(now_ms); echo "$t0" > "$dir/t0_ms"
  for n in ${names[@]+"${names[@]}"}; do case $n in zk-*) spawn "$dir" "$n" ;; esac; done
  [ "$zkn" -eq 0 ] || for ((i = 1; i <= zkn; i++)); do wait_port $((base + 9 + i)) 30 || { echo "peer.sh: zk-$i not up" >&2; stop "$dir"; exit 1; }; done
  for n in ${names[@]+"${names[@]}"}; do case $n in broker-*) spawn "$dir" "$n" ;; esac; done
  if [ $wait = 1 ]; then
    for n in ${names[@]+"${names[@]}"}; do
      case $n in
        broker-*) wait_for "$dir" "$n" logs/server.log '(KafkaServer id=|KafkaRaftServer nodeId=|KafkaServer.*|Kafka Server )[^ ]* ?started|\] started \(kafka.server' 90 || { stop "$dir"; exit 1; } ;;
      esac
    done
  fi
  local json=; while read -r p _ n; do json+=${json:+,}\"$n\":$p; done < "$dir/pids"
  echo "{\"peer\":\"$peer\",\"mode\":\"$mode\",\"bootstrap\":\"$bootstrap\",\"zookeeper\":\"$zookeeper\",\"bin\":\"${bin:-$zkbin}\",\"pids\":{$json},\"ready_ms\":$(( $(now_ms) - t0 ))}" | tee "$dir/peer.json"
}

stop() {
  local d; d=$(cd "$1" && pwd); local n p kind pids=()
  [ -e "$d/pids" ] || { echo "peer.sh: nothing was started in $d" >&2; return 1; }
  for kind in broker zk; do                              # brokers first, they sign off at ZooKeeper
    local i sig=TERM
    for ((i = 0; i <= 200; i++)); do
      pids=()
      for n in $(awk '{print $3}' "$d/pids" | grep "^$kind-" | sort -u); do p=$(pid_of "$d" "$n"); [ -z "$p" ] || pids+=("$p"); done
      [ ${#pids[@]} -gt 0 ] || break
      [ $i -lt 200 ] || sig=KILL
      [ $i -gt 0 ] && [ $i -lt 200 ] || kill -$sig "${pids[@]}" 2>/dev/null || true
      sleep 0.1
    done
  done
  : > "$d/pids"
}

case ${1:-} in
  start) shift; [ $# -ge 1 ] || usage; start "$@" ;;
  stop) stop "${2:?D}" ;;
  status) awk '{print $3}' "${2:?D}/pids" | sort -u | while read -r n; do p=$(pid_of "$2" "$n"); echo "$n ${p:--} $([ -n "$p" ] && echo up || echo down)"; done ;;
  kill) p=$(pid_of "${2:?D}" "${3:?NAME}"); [ -n "$p" ] || { echo "peer.sh: $3 is not running" >&2; exit 1; }; kill -"${4:-TERM}" "$p"; echo "$p" ;;
  respawn) [ -z "$(pid_of "${2:?D}" "${3:?NAME}")" ] || { echo "peer.sh: $3 runs already" >&2; exit 1; }; spawn "$(cd "$2" && pwd)" "$3"; pid_of "$2" "$3" ;;
  -h|--help|help) usage 0 ;;
  *) usage ;;
esac
