#!/usr/bin/env bash
# The ensemble, ours beside a genuine one of three members of ZooKeeper 3.6.2: the same zoo.cfg (the tutorial's, fsync on, as by default in
# both) and the same client (zkload.go, which needs Go), one side after the other.
#   coordinator.sh [--seconds 10] [--kills 5] [--starts 5] [--znodes 100000] [--watches 100000] [--sessions 10000] [--only "zk ours"]
# Prints a table of a column each; a figure that could not be taken prints "-". Needs Java 17, Maven, Go and a quiet machine.
# Ports 48181-48383. A genuine member has the heap that its scripts give it (-Xmx512M here).
. "$(dirname "$0")/../lib/common.sh"
. "$root/tests/lib/peers.sh"
set +e
seconds=10 kills=5 starts=5 znodes=100000 watches=100000 sessions=10000 sides="zk ours"
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2 ;; --kills) kills=$2 ;; --starts) starts=$2 ;; --znodes) znodes=$2 ;; --watches) watches=$2 ;; --sessions) sessions=$2 ;; --only) sides=$2 ;;
    *) sed -n '2,6s/^# \?//p' "$0" >&2; exit 2 ;;
  esac
  shift 2 || exit 2
done
[ "$watches" -le "$znodes" ] || { say "no more watches than znodes: each watches one of them"; exit 2; }
binary=$(tripod_binary)
genuine=$(peer_bin zookeeper-3.6.2) || exit 1
zkload=$work/zkload
(cd "$root/tests/bench" && go build -o "$zkload" zkload.go) || exit 1
ln -s "$binary" "$work/zkServer.sh"
# A session is a descriptor at either end.
ulimit -n 100000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
all=127.0.0.1:48181,127.0.0.1:48182,127.0.0.1:48183
# shellcheck disable=SC2046  # a list
need_ports ${all//,/ } $(for n in 1 2 3; do printf '127.0.0.1:%s\n' $((48280 + n)) $((48380 + n)); done)
now_ms() { date +%s%3N; }
declare -A figure # "SIDE NAME" -> what the table prints
declare -a member

# ---- the two sides
configured() { # configured SIDE: three empty directories with the tutorial's zoo.cfg
  local n other
  rm -rf "${work:?}/$1"
  for n in 1 2 3; do
    mkdir -p "$work/$1/$n/data"
    printf '%s\n' tickTime=2000 initLimit=10 syncLimit=5 "dataDir=$work/$1/$n/data" "clientPort=$((48180 + n))" clientPortAddress=127.0.0.1 \
      admin.enableServer=false maxClientCnxns=0 '4lw.commands.whitelist=*' >"$work/$1/$n/zoo.cfg"
    for other in 1 2 3; do echo "server.$other=127.0.0.1:$((48280 + other)):$((48380 + other))"; done >>"$work/$1/$n/zoo.cfg"
    echo "$n" >"$work/$1/$n/data/myid"
  done
}
run_member() { # run_member SIDE N
  case $1 in
    ours) launch "$work/$1/$2/out.log" "$work/zkServer.sh" start-foreground "$work/$1/$2/zoo.cfg" ;;
    zk) launch "$work/$1/$2/out.log" env LOG_DIR="$work/$1/$2" "$genuine/zkServer.sh" start-foreground "$work/$1/$2/zoo.cfg" ;;
  esac
  member[$2]=$launched
}
run_all() { local n; for n in 1 2 3; do run_member "$1" $n; done; }
kill_all() { local n; for n in 1 2 3; do kill -KILL "${member[$n]}" 2>/dev/null; done; for n in 1 2 3; do wait_for 30 gone "${member[$n]}"; done; }
mode_of() { printf srvr | timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$((48180 + $1)); cat >&3; cat <&3" 2>/dev/null | sed -n 's/^Mode: //p'; }
leader() { local n; for n in 1 2 3; do [ "$(mode_of $n)" != leader ] || { echo $n; return; }; done; return 1; }
all_serve() { [ "$(for n in 1 2 3; do mode_of $n; done | sort | tr '\n' ' ')" = "follower follower leader " ]; }

# ---- measuring
spread() { sort -n | awk '{ v[NR] = $1 } END { if (NR) printf "%d / %d (%d runs)\n", v[int((NR + 1) / 2)], v[NR], NR; else print "-" }'; }
rss() { local n; for n in 1 2 3; do awk -v f="${1:-VmRSS}:" '$1 == f { printf "%.1f\n", $2 / 1024 }' "/proc/${member[$n]}/status"; done | sort -n | tail -1; } # MB, of the largest member
load() { # load SIDE NAME OP SESSIONS
  local out per_s p50 p99 failed
  out=$(timeout $((seconds * 3 + 60)) "$zkload" rate "$all" "$3" "$4" "$seconds" 2>>"$work/zkload.err") && read -r per_s p50 p99 failed <<<"$out" || return
  [ "$failed" = 0 ] || say "$1: $failed sessions failed over $2"
  figure["$1 $2"]=$per_s
  figure["$1 $2 p50"]=$(awk "BEGIN { printf \"%.2f\", $p50 / 1000 }") figure["$1 $2 p99"]=$(awk "BEGIN { printf \"%.2f\", $p99 / 1000 }")
}
started() { # started SIDE: ms until three members that are run now acknowledge a write
  local since; since=$(now_ms)
  run_all "$1"
  timeout 120 "$zkload" first "$all" "$since" 2>>"$work/zkload.err"
}
leader_killed() { # leader_killed SIDE: ms from kill -9 to a write that was asked for afterwards
  local n others
  wait_for 60 all_serve && n=$(leader) || return
  others=$(for o in 1 2 3; do [ $o = "$n" ] || echo 127.0.0.1:$((48180 + o)); done | paste -sd,)
  timeout 120 "$zkload" after-kill "${member[$n]}" "$others" 2>>"$work/zkload.err"
  run_member "$1" "$n"
}
held() { # held SIDE NAME WORD N: RSS while zkload holds that
  local out=$work/held fifo=$work/fifo pid
  rm -f "$fifo" "$out"; mkfifo "$fifo"
  "$zkload" "$3" "$all" "$4" <"$fifo" >"$out" 2>>"$work/zkload.err" &
  pid=$!; pids+=("$pid")
  exec 7>"$fifo"
  ready() { grep -q ready "$out" || gone "$pid"; }
  wait_for 300 ready
  grep -q ready "$out" && figure["$1 $2"]=$(rss)
  exec 7>&-
  wait "$pid"
}

bench() { # bench SIDE
  local side=$1 n file="$work/figures.$1"
  : >"$file"
  for n in $(seq "$starts"); do configured "$side"; started "$side" >>"$file"; kill_all; done
  figure["$side first"]=$(spread <"$file")
  configured "$side"; started "$side" >/dev/null; wait_for 60 all_serve || { say "$side does not start"; return; }
  figure["$side idle rss"]=$(rss)
  load "$side" warm set 32
  load "$side" set1 set 1
  load "$side" set32 set 32
  load "$side" get32 get 32
  figure["$side load rss"]=$(rss) figure["$side peak rss"]=$(rss VmHWM)
  : >"$file"
  for n in $(seq "$kills"); do leader_killed "$side" >>"$file"; done
  figure["$side killed"]=$(spread <"$file")
  wait_for 60 all_serve
  : >"$file"
  for n in $(seq "$starts"); do kill_all; started "$side" >>"$file"; wait_for 60 all_serve; done
  figure["$side again"]=$(spread <"$file")
  local begun; begun=$(now_ms)
  timeout 600 "$zkload" fill "$all" "$znodes" 2>>"$work/zkload.err" && figure["$side fill"]=$(($(now_ms) - begun)) && figure["$side znodes rss"]=$(rss)
  held "$side" "watches rss" watch "$watches"
  kill_all
  configured "$side"; started "$side" >/dev/null; wait_for 60 all_serve
  held "$side" "sessions rss" idle "$sessions"
  kill_all
}

for side in $sides; do bench "$side"; done
[ ! -s "$work/zkload.err" ] || { say "the client said:"; sort "$work/zkload.err" | uniq -c | head -5 >&2; }
row() { printf '%-62s %22s %22s\n' "$1" "${figure["ours $2"]:--}" "${figure["zk $2"]:--}"; }
printf '%-62s %22s %22s\n' "3 members, tickTime=2000, fsync on, 256 B, $seconds s each" tripod "ZooKeeper 3.6.2"
row "setData, 1 client, writes/s" set1
row "    latency p50, ms" "set1 p50"
row "    latency p99, ms" "set1 p99"
row "setData, 32 clients, writes/s" set32
row "    latency p50, ms" "set32 p50"
row "    latency p99, ms" "set32 p99"
row "getData, 32 clients, reads/s" get32
row "    latency p99, ms" "get32 p99"
row "RSS of the largest member: idle, MB" "idle rss"
row "    after this load, MB" "load rss"
row "    at its peak, MB" "peak rss"
row "kill -9 of the leader to the next write, ms: median / worst" killed
row "three new members from start to first write, ms" first
row "kill -9 of all, from start to first write, ms" again
row "$znodes znodes of 256 B created, ms" fill
row "RSS of the largest member with them, MB" "znodes rss"
row "    and $watches watches on them, MB" "watches rss"
row "RSS of the largest member with $sessions idle sessions, MB" "sessions rss"
